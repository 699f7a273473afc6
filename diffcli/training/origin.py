"""A network that starts with the weights of another one, of other labels, size or colours."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from diffcli.core.parameters import UNetConfig
from diffcli.core.unet import ConditionalUNet
from diffcli.data.images import LabelledImages

_LABELS, _STEM = "label_embedding.weight", "stem.weight"
_AUGMENTATION = "augmentation_embedding.weight"
_HEAD = ("head.weight", "head.bias")


def adapted(architecture: UNetConfig, data: LabelledImages) -> UNetConfig:
    """The same network for the images and the labels of a data set.

    Raises:
        ValueError: if it cannot take images of this size.
    """
    channels, height, width = data.images.shape[1:]
    return replace(
        architecture,
        image_channels=channels,
        image_height=height,
        image_width=width,
        num_classes=len(data.class_names),
    )


def adopt(
    network: ConditionalUNet,
    class_names: Sequence[str],
    origin: ConditionalUNet,
    origin_names: Sequence[str],
) -> None:
    """Start a network with the weights of another one.

    A label keeps its embedding if the other network has one of that name; new labels keep their
    random ones: if they all began as "no label", they would take long to part.  From grey to RGB,
    every colour is treated as grey was; from RGB to grey, grey is treated as their mean was.

    Args:
        network: of an ``adapted`` architecture.
        class_names: its labels.
        origin: the other one.
        origin_names: its labels.
    """
    weights = dict(origin.state_dict())
    known = weights[_LABELS]
    table = network.state_dict()[_LABELS].clone()
    for number, name in enumerate(class_names):
        if name in origin_names:
            table[number] = known[origin_names.index(name)]
    table[network.no_label] = known[origin.no_label]
    weights[_LABELS] = table
    if network.config.augmented and not origin.config.augmented:
        weights[_AUGMENTATION] = network.state_dict()[_AUGMENTATION]
    before, after = origin.config.image_channels, network.config.image_channels
    if before != after:
        _recolour(weights, before, after)
    network.load_state_dict(weights)


def _recolour(weights: dict[str, Tensor], before: int, after: int) -> None:
    """Change the channels of images, by which stem and head are folded channel by channel."""
    stem = weights[_STEM].unflatten(1, (before, -1)).sum(1, keepdim=True) / after
    weights[_STEM] = stem.expand(-1, after, -1, -1, -1).flatten(1, 2)
    for name in _HEAD:
        head = weights[name].unflatten(0, (before, -1)).mean(0, keepdim=True)
        weights[name] = head.expand(after, *head.shape[1:]).flatten(0, 1)
