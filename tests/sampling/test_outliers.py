from collections.abc import Sequence
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


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (1, [0] * 100),
        (3, [*range(3)] * 33 + [0]),
        (100, [*range(100)]),
        (250, [*range(0, 250, 5), *range(2, 250, 5)]),
    ],
)
def test_own_drawings_are_of_labels_spread_over_all_classes(
    classes: int, expected: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []

    def see(_: Denoiser, images: Tensor, labels: Tensor) -> Tensor:
        judged.extend(labels.tolist())
        return torch.zeros(len(images)).double()

    monkeypatch.setattr(outliers, "misfit", see)
    architecture = tiny.config(classes=classes)
    description = replace(
        tiny.description(sampling=SamplingSettings("ddim", 1)),
        architecture=architecture,
        class_names=tuple(map(str, range(classes))),
    )
    denoiser = description.build()
    denoiser.network.load_state_dict(tiny.network(architecture).state_dict())
    pictures = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    model = Model(description, denoiser.eval(), Path())
    outliers.unusual(model, pictures, torch.tensor([0, classes - 1]))
    assert sorted(judged[:100]) == sorted(expected)
    assert judged[100:] == [0, classes - 1]
