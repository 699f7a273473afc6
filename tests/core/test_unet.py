from typing import Any

import pytest
import torch
from torch import Tensor

from diffcli.core.parameters import UNetConfig
from diffcli.core.unet import ConditionalUNet, ResidualBlock
from tests import tiny


def inputs(count: int, config: UNetConfig | None = None) -> tuple[Tensor, Tensor, Tensor]:
    config = config or tiny.config()
    generator = torch.Generator().manual_seed(count)
    shape = (count, config.image_channels, config.image_height, config.image_width)
    return (
        torch.randn(shape, generator=generator),
        torch.randint(300, (count,), generator=generator),
        torch.randint(config.num_classes + 1, (count,), generator=generator),
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 8), (8, 12), (28, 28), (36, 4)])
@pytest.mark.parametrize("classes", [1, 3, 200])
def test_the_prediction_is_like_the_image(
    channels: int, height: int, width: int, classes: int
) -> None:
    config = tiny.config(channels, height, width, classes)
    x, t, labels = inputs(2, config)
    prediction = ConditionalUNet(config)(x, t, labels)
    assert prediction.shape == x.shape
    assert prediction.dtype == torch.float32
    assert prediction.isfinite().all()


def test_images_in_a_batch_do_not_touch_each_other() -> None:
    network = tiny.network()
    x, t, labels = inputs(5)
    together = network(x, t, labels)
    alone = torch.cat([network(x[i : i + 1], t[i : i + 1], labels[i : i + 1]) for i in range(5)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_one_timestep_stands_for_all() -> None:
    network = tiny.network()
    x, _, labels = inputs(3)
    once = network(x, torch.tensor([7]), labels)
    assert torch.allclose(once, network(x, torch.tensor([7, 7, 7]), labels), atol=1e-6)


def test_the_memory_layout_of_the_images_does_not_matter() -> None:
    config = tiny.config(channels=3)
    network = tiny.network(config)
    x, t, labels = inputs(2, config)
    other = x.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(network(x, t, labels), network(other, t, labels), atol=1e-6)


def test_the_prediction_depends_on_image_timestep_and_label() -> None:
    network = tiny.network()
    x, t, labels = inputs(1)
    first = network(x, t, labels)
    others = [
        network(-x, t, labels),
        network(x, t + 1, labels),
        *(network(x, t, torch.tensor([label])) for label in range(4) if label != int(labels)),
    ]
    assert all((other - first).abs().max() > 1e-4 for other in others)
    assert torch.equal(first, network(x, t, labels))


def test_no_label_is_the_entry_after_the_last_class() -> None:
    network = tiny.network()
    assert network.no_label == 3
    x, t, _ = inputs(1)
    network(x, t, torch.tensor([3]))
    with pytest.raises(IndexError):
        network(x, t, torch.tensor([4]))


def test_every_pixel_sees_every_other() -> None:
    network = tiny.network()
    x, t, labels = inputs(1)
    x.requires_grad_()
    prediction = network(x, t, labels)
    for row, column in ((0, 0), (3, 5), (7, 7)):
        (seen,) = torch.autograd.grad(prediction[0, 0, row, column], x, retain_graph=True)
        assert (seen != 0).all()


@pytest.mark.parametrize(
    ("size", "levels"),
    [
        ((28, 28), 2), ((32, 32), 2), ((36, 36), 2), ((32, 48), 3), ((64, 64), 3), ((8, 128), 3),
        ((128, 128), 4),
    ],
)  # fmt: skip
def test_larger_images_get_more_levels_as_far_as_they_can_be_halved(
    size: tuple[int, int], levels: int
) -> None:
    config = UNetConfig.for_images(1, *size, num_classes=2)
    assert config.patch_size == 2
    assert len(config.channels) == len(config.blocks) == levels
    assert config.blocks == (1,) * (levels - 1) + (3,)


def test_small_images_with_details_have_a_level_of_single_pixels() -> None:
    small, large = (UNetConfig.for_images(3, side, side, 2, 48, detailed=True) for side in (32, 64))
    assert (small.patch_size, small.channels, small.blocks) == (1, (48, 48, 96), (1, 1, 3))
    assert (large.patch_size, large.channels, large.blocks) == (2, (48, 96, 96), (1, 1, 3))
    assert small.stride == 4


@pytest.mark.parametrize("size", [(28, 28), (64, 64)])
def test_the_default_network_sees_the_whole_image(size: tuple[int, int]) -> None:
    config = UNetConfig.for_images(1, *size, num_classes=2)
    network = tiny.network(config)
    x, t, labels = inputs(1, config)
    x.requires_grad_()
    (seen,) = torch.autograd.grad(network(x, t, labels)[0, 0, 0, 0], x)
    assert (seen != 0).all()


def test_every_weight_is_used() -> None:
    network = tiny.network().requires_grad_(True)
    x, t, labels = inputs(4)
    network(x, t, labels).square().sum().backward()
    unused = [
        name
        for name, param in network.named_parameters()
        if param.grad is None or not param.grad.abs().sum() > 0
    ]
    assert unused == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_height": 27}, "28x27.*multiples of 4"),
        ({"image_width": 30}, "30x28.*multiples of 4"),
        ({"image_height": 0}, "image_height"),
        ({"image_width": 5000}, "image_width"),
        ({"image_channels": 2}, "1 or 3 channels, not 2"),
        ({"num_classes": 0}, "num_classes"),
        ({"num_classes": 100_001}, "num_classes"),
        ({"channels": (40, 80)}, "multiples of 16"),
        ({"channels": ()}, "channels"),
        ({"channels": (32,) * 9}, "channels"),
        ({"embedding_dim": 33}, "even"),
        ({"embedding_dim": -2}, "embedding_dim"),
        ({"patch_size": 0}, "patch_size"),
    ],
)
def test_what_cannot_be_built_is_refused_early(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNetConfig(**fields)


def test_a_new_network_predicts_zero_and_its_blocks_change_nothing() -> None:
    config = tiny.config()
    x, t, labels = inputs(3, config)
    assert not ConditionalUNet(config)(x, t, labels).any()
    features = torch.randn(2, 32, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ResidualBlock(32, 16)(features, torch.ones(2, 16)), features)


@pytest.mark.parametrize(("height", "width", "levels"), [(64, 36, 2), (36, 64, 2), (64, 64, 3)])
def test_levels_are_added_while_both_sides_can_be_halved(
    height: int, width: int, levels: int
) -> None:
    assert len(UNetConfig.for_images(1, height, width, 2).channels) == levels


@pytest.mark.parametrize(("height", "width"), [(32, 64), (64, 32)])
def test_images_with_a_long_side_have_no_level_of_single_pixels(height: int, width: int) -> None:
    assert UNetConfig.for_images(3, height, width, 2, detailed=True).patch_size == 2
