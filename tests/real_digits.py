"""Fixtures: real digits, few enough to be evaluated quickly, and the shipped feature network."""

import pytest
import torch

from diffcli.data.images import LabelledImages
from diffcli.data.mnist import load_mnist
from diffcli.evaluation.judge import Judge
from diffcli.evaluation.network import FeatureNetwork
from diffcli.evaluation.storage import load_features
from diffcli.files.locations import shipped_file


@pytest.fixture(scope="session")
def train() -> LabelledImages:
    return load_mnist("train").subset(torch.arange(6000))


@pytest.fixture(scope="session")
def test() -> LabelledImages:
    return load_mnist("test").subset(torch.arange(1000))


@pytest.fixture(scope="session")
def network() -> FeatureNetwork:
    return load_features(shipped_file("features-mnist.safetensors"))[1]


@pytest.fixture(scope="session")
def judge(network: FeatureNetwork, train: LabelledImages, test: LabelledImages) -> Judge:
    return Judge(network, train, test, seed=0)
