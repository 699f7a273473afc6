from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import SamplingSettings
from diffcli.sampling import outliers
from diffcli.sampling.model import Model
from tests import tiny


def model_of(classes: int) -> Model:
    architecture = tiny.config(classes=classes)
    description = replace(
        tiny.description(sampling=SamplingSettings("ddim", 1)),
        architecture=architecture,
        class_names=tuple(map(str, range(classes))),
    )
    denoiser = description.build()
    denoiser.network.load_state_dict(tiny.network(architecture).state_dict())
    return Model(description, denoiser.eval(), Path())


@pytest.mark.parametrize(("present", "each"), [(1, 100), (3, 100), (10, 100), (30, 33), (150, 10)])
def test_own_drawings_are_of_the_labels_that_pictures_have(
    present: int, each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: Counter[int] = Counter()

    def see(_: Denoiser, images: Tensor, labels: Tensor) -> Tensor:
        judged.update(labels.tolist())
        return torch.zeros(len(images)).double()

    monkeypatch.setattr(outliers, "misfit", see)
    labels = 2 * torch.arange(present).repeat(2)
    pictures = torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8)
    progress: list[tuple[int, int]] = []
    outliers.unusual(
        model_of(300), pictures, labels, lambda done, total: progress.append((done, total))
    )
    assert judged == dict.fromkeys(labels.tolist(), each + 2)
    total = present * (each + 2)
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    assert {of for _, of in progress} == {total} == {progress[-1][0]}


def test_pictures_are_compared_with_drawings_of_their_own_label(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of those of label 0, half have a misfit of -1 and half of 1; of label 1, 5 and 15."""

    def of_label_and_ink(_: Denoiser, images: Tensor, labels: Tensor) -> Tensor:
        if len(images) == 2:  # the pictures that are asked about
            return 20 * images.mean((1, 2, 3)).double()
        signs = torch.tensor([-1.0, 1.0]).repeat(len(images) // 2)
        return ((10 + 5 * signs) if labels[0] else signs).double()

    monkeypatch.setattr(outliers, "misfit", of_label_and_ink)
    monkeypatch.setattr(Model, "batch_size", lambda *_: 100)
    pictures = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    pictures[1:3] = 255
    found = outliers.unusual(model_of(2), pictures, torch.tensor([0, 0, 1, 1]))
    std = (100 / 99) ** 0.5
    expected = torch.tensor([-20, 20, (20 - 10) / 5, (-20 - 10) / 5]) / std
    torch.testing.assert_close(found, expected.double())


def test_drawings_that_are_all_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def level(_: Denoiser, images: Tensor, _labels: Tensor) -> Tensor:
        return torch.full((len(images),), 2.0 if len(images) > 1 else 3.0).double()

    monkeypatch.setattr(outliers, "misfit", level)
    monkeypatch.setattr(Model, "batch_size", lambda *_: 100)
    pictures = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    found = outliers.unusual(model_of(1), pictures, torch.tensor([0]))
    assert 1e5 < float(found) < 1e9
