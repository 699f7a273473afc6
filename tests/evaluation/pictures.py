"""A data set that a small network learns within a second: bars across, down, and none."""

import torch

from diffcli.data.images import LabelledImages

NAMES = ("across", "down", "none")


def bars(count: int, seed: int) -> LabelledImages:
    """8x8 grey pictures of as many of each class, noisy, each bar somewhere else."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(60, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(count) % 3
    places = torch.randint(2, 6, (count,), generator=generator)
    for image, label, place in zip(images, labels.tolist(), places.tolist(), strict=True):
        if label == 0:
            image[0, place] = 255
        elif label == 1:
            image[0, :, place] = 255
    return LabelledImages(images, labels, NAMES)
