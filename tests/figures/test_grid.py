"""Strips, sheets and animations, pixel by pixel."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diffcli.core.samplers import Step
from diffcli.figures.grid import animation, grid, grid_columns, sheet, spread, strip
from diffcli.files.embedded import Embedded

SIDE = 4


def steps(count: int, batch: int = 2) -> list[Step]:
    """At step ``k`` image ``b`` has the grey value ``20 b + k``, its estimate 100 more."""
    made = []
    for k in range(count):
        grey = torch.arange(batch).view(-1, 1, 1, 1) * 20.0 + k
        x = (grey.expand(-1, 1, SIDE, SIDE)) / 127.5 - 1
        made.append(Step(count - k, count - k - 1, x, x + 100 / 127.5))
    return made


def greys(picture: Image.Image) -> list[list[int]]:
    """The grey value in the middle of each cell of a grid."""
    cell, centre = SIDE + 2, 2 + SIDE // 2
    grid: list[list[int]] = np.asarray(picture.convert("L"))[centre::cell, centre::cell].tolist()
    return grid


def test_a_strip_has_the_steps_with_the_estimates_below_them() -> None:
    assert greys(strip(steps(3))) == [[0, 1, 2], [100, 101, 102], [20, 21, 22], [120, 121, 122]]


def test_of_many_steps_some_are_shown_and_the_last_one() -> None:
    row = greys(strip(spread(steps(50, batch=1), 50, 10)))[0]
    assert row == [4, 9, 14, 19, 24, 29, 34, 39, 44, 49]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_has_a_frame_per_step_and_repeats(kind: str) -> None:
    content = animation(steps(5), 2, kind, Embedded({}, ""))
    with Image.open(io.BytesIO(content)) as movie:
        assert (movie.format, getattr(movie, "n_frames", 1)) == (kind, 5)
        assert movie.info["loop"] == 0
        for index in range(5):
            movie.seek(index)
            assert greys(movie) == [[index, 20 + index]]


@given(count=st.integers(1, 400), most=st.integers(1, 70))
def test_steps_are_spread_evenly_up_to_the_last(count: int, most: int) -> None:
    made = [Step(t, t - 1, torch.empty(0), torch.empty(0)) for t in reversed(range(count))]
    kept = [step.t for step in spread(iter(made), count, most)]
    assert len(kept) == min(count, most)
    assert kept[-1] == 0
    gaps = {before - after for before, after in pairwise([count, *kept])}
    assert max(gaps) - min(gaps) <= 1


def test_a_sheet_puts_rows_beside_their_captions() -> None:
    rows = [torch.full((3, 1, 8, 8), value, dtype=torch.uint8) for value in (50, 150)]
    page = sheet(rows, ["guidance 1", "guidance 10"])
    margin = page.width - (3 * 10 + 2)
    assert page.height == 2 * 10 + 2
    assert [page.getpixel((margin + 5, y)) for y in (5, 15)] == [50, 150]
    # Both captions leave ink, and the longer one none beside the pictures.
    for top in (0, 11):
        assert min(page.crop((0, top, margin, top + 11)).tobytes()) < 100
    assert min(page.crop((margin - 3, 0, margin, 22)).tobytes()) == 255


def test_a_grid_has_a_border_and_a_single_picture_has_none() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (6, 1, 4, 6), dtype=torch.uint8, generator=generator)
    picture = grid(pixels, 3)
    assert picture.size == (3 * 8 + 2, 2 * 6 + 2)
    assert picture.crop((10, 8, 16, 12)).tobytes() == pixels[4].numpy().tobytes()
    single = grid(pixels[:1], 3)
    assert (single.size, single.tobytes()) == ((6, 4), pixels[0].numpy().tobytes())


def test_pictures_of_one_label_form_a_square() -> None:
    assert [grid_columns(1, n) for n in (1, 2, 4, 5, 16, 17)] == [1, 2, 2, 3, 4, 5]
    assert grid_columns(2, 16) == 16


def test_single_pictures_of_several_labels_form_rows_of_ten() -> None:
    assert [grid_columns(n, 1) for n in (2, 10, 11)] == [2, 10, 10]
