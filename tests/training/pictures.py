"""A folder of tiny labelled pictures, made of real digits, on which training takes seconds."""

from pathlib import Path

import torch

from diffcli.data.images import LabelledImages, resized
from diffcli.data.mnist import load_mnist
from diffcli.files.pictures import save_png, to_pillow

CLASSES = ("one", "seven", "zero")
DIGITS = (1, 7, 0)


def tiny_digits(count: int = 60) -> LabelledImages:
    """MNIST's zeros, ones and sevens at 8x8."""
    digits = load_mnist("test")
    index = torch.isin(digits.labels, torch.tensor(DIGITS)).nonzero().flatten()[:count]
    small = resized(digits.subset(index), (8, 8))
    labels = torch.tensor([DIGITS.index(int(label)) for label in small.labels])
    return LabelledImages(small.images, labels, CLASSES)


def write_folder(folder: Path, data: LabelledImages) -> Path:
    """The same as a folder of class folders."""
    for number, (image, label) in enumerate(zip(data.images, data.labels, strict=True)):
        place = folder / data.class_names[int(label)]
        place.mkdir(parents=True, exist_ok=True)
        save_png(place / f"{number:03}.png", to_pillow(image))
    return folder
