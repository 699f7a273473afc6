"""Train the feature networks in ``models/`` anew.

    python -m tests.benchmarks.feature_networks FOLDER

The main one is what ``diffcli evaluate`` judges MNIST with, the check network is a second one of
another architecture and seed.
"""

import argparse
from pathlib import Path
from typing import get_args

import torch

from diffcli.data.mnist import load_mnist
from diffcli.evaluation.provide import Role, train_features
from diffcli.evaluation.storage import save_features


def main() -> None:
    """Train both and write them to a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    train, test = load_mnist("train"), load_mnist("test")
    for role in get_args(Role):
        description, network = train_features(role, train, test, torch.device("cpu"))
        path = folder / f"features-mnist{'-check' if role == 'check' else ''}.safetensors"
        save_features(path, description, network)
        print(f"{path}: {description.training['test_accuracy']:.2%} of the test digits")


if __name__ == "__main__":
    main()
