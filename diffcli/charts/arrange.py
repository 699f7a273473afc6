"""Arranging pictures."""

from collections.abc import Sequence
from typing import Literal

from PIL import Image, ImageOps

from diffcli.charts.colours import FRAME, PAPER

Side = Literal["start", "centre"]


def stack(pictures: Sequence[Image.Image], gap: int = 0, align: Side = "start") -> Image.Image:
    """Pictures one below the other, ``gap`` pixels apart."""
    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, height), PAPER)
    top = 0
    for picture in pictures:
        sheet.paste(picture, ((width - picture.width) // 2 if align == "centre" else 0, top))
        top += picture.height + gap
    return sheet


def beside(pictures: Sequence[Image.Image], gap: int = 0, align: Side = "start") -> Image.Image:
    """Pictures one beside the other, ``gap`` pixels apart."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    height = max(picture.height for picture in pictures)
    sheet = Image.new("RGB", (width, height), PAPER)
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, (height - picture.height) // 2 if align == "centre" else 0))
        left += picture.width + gap
    return sheet


def wrapped(pictures: Sequence[Image.Image], columns: int, gap: int) -> Image.Image:
    """Pictures in rows of up to ``columns``."""
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    return stack([beside(row, gap) for row in rows], gap)


def padded(picture: Image.Image, margin: int) -> Image.Image:
    """A picture with ``margin`` pixels of background around it."""
    return ImageOps.expand(picture, margin, PAPER)


def framed(picture: Image.Image) -> Image.Image:
    """A picture with a thin line around it, so that a light one stands out from the background."""
    return ImageOps.expand(picture.convert("RGB"), 1, FRAME)


def enlarged(picture: Image.Image, side: int) -> Image.Image:
    """A framed picture, every pixel a square of as many pixels as fit ``side``."""
    factor = max(1, side // max(picture.size))
    size = (picture.width * factor, picture.height * factor)
    return framed(picture.resize(size, Image.Resampling.NEAREST))


def at_least(picture: Image.Image, width: int, align: Side = "start") -> Image.Image:
    """A picture, widened with background to at least ``width`` pixels."""
    sheet = Image.new("RGB", (max(width, picture.width), picture.height), PAPER)
    sheet.paste(picture, ((sheet.width - picture.width) // 2 if align == "centre" else 0, 0))
    return sheet
