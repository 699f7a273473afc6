"""Networks that start with the weights of another one."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffcli.core.parameters import AUGMENTATIONS
from diffcli.core.unet import ConditionalUNet
from diffcli.data.images import LabelledImages
from diffcli.training.origin import adapted, adopt
from tests import tiny

NAMES = ("zero", "one", "two")


def network(channels: int = 1, side: int = 8, classes: int = 3, seed: int = 0) -> ConditionalUNet:
    return tiny.network(tiny.config(channels, side, side, classes), seed)


def adopted(origin: ConditionalUNet, names: tuple[str, ...], channels: int = 1) -> ConditionalUNet:
    made = network(channels, classes=len(names), seed=1)
    adopt(made, names, origin, NAMES)
    return made


def noisy(channels: int = 1, side: int = 8) -> Tensor:
    return torch.randn(3, channels, side, side, generator=torch.Generator().manual_seed(0))


def answer(net: ConditionalUNet, x: Tensor, labels: list[int]) -> Tensor:
    return net(x, torch.tensor([3, 9, 15]), torch.tensor(labels))


def test_labels_keep_their_meaning_by_name_and_new_ones_have_one_of_their_own() -> None:
    origin, x = network(), noisy()
    made = adopted(origin, ("new", "two", "zero", "other"))
    assert torch.equal(answer(made, x, [2, 1, 2]), answer(origin, x, [0, 2, 0]))
    nothing = answer(origin, x, [origin.no_label] * 3)
    assert torch.equal(answer(made, x, [made.no_label] * 3), nothing)
    new, other = answer(made, x, [0] * 3), answer(made, x, [3] * 3)
    assert not torch.allclose(new, nothing, atol=1e-3)
    assert not torch.allclose(new, other, atol=1e-3)


def test_grey_becomes_three_equal_colours() -> None:
    origin, x = network(), noisy()
    made = adopted(origin, NAMES, channels=3)
    coloured = answer(made, x.expand(-1, 3, -1, -1), [0, 1, 2])
    assert torch.allclose(coloured, answer(origin, x, [0, 1, 2]).expand_as(coloured), atol=1e-5)


def test_colours_become_their_mean() -> None:
    origin, x = network(channels=3), noisy()
    grey = answer(adopted(origin, NAMES), x, [0, 1, 2])
    coloured = answer(origin, x.expand(-1, 3, -1, -1), [0, 1, 2])
    assert torch.allclose(grey, coloured.mean(1, keepdim=True), atol=1e-5)


def test_the_architecture_fits_the_data_and_keeps_its_widths() -> None:
    data = LabelledImages(
        torch.zeros(2, 3, 12, 16, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b")
    )
    made = adapted(tiny.config(), data)
    assert made == replace(
        tiny.config(), image_channels=3, image_height=12, image_width=16, num_classes=2
    )
    net = ConditionalUNet(made)
    adopt(net, data.class_names, network(), NAMES)
    assert answer(net, torch.randn(3, 3, 12, 16), [0, 1, 2]).shape == (3, 3, 12, 16)
    odd = LabelledImages(torch.zeros(1, 1, 9, 8, dtype=torch.uint8), torch.tensor([0]), ("a",))
    with pytest.raises(ValueError, match="8x9"):
        adapted(tiny.config(), odd)


def test_a_network_that_can_be_told_of_augmentation_begins_as_one_that_cannot() -> None:
    origin, x = network(), noisy()
    told = tiny.network(replace(tiny.config(), augmented=True), seed=1)
    torch.nn.init.zeros_(told.augmentation_embedding.weight)
    adopt(told, NAMES, origin, NAMES)
    labels, t = torch.tensor([0, 1, 2]), torch.tensor([3, 9, 15])
    with_code = told(x, t, labels, torch.ones(3, AUGMENTATIONS))
    assert torch.equal(with_code, answer(origin, x, [0, 1, 2]))
    # What it then learned of augmentation is taken over.
    torch.nn.init.ones_(told.augmentation_embedding.weight)
    again = tiny.network(replace(tiny.config(), augmented=True), seed=2)
    adopt(again, NAMES, told, NAMES)
    assert again.augmentation_embedding.weight.eq(1).all()
