"""Pages in a real browser: their making, and what is seen of them."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Page, expect
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import SamplingSettings
from diffcli.core.schedule import NoiseSchedule
from diffcli.files.checkpoint import ModelDescription
from diffcli.page.build import build_page
from tests import tiny

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

IN_BROWSER = [
    pytest.mark.browser,
    pytest.mark.process,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH"),
]
"""The marks of modules whose tests need one."""

PIXELS = """canvas => Array.from(
    canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""

GUIDED = SamplingSettings("ddim", 4, guidance_scale=2.0)


def tiny_page(path: Path, names: tuple[str, ...], sampling: SamplingSettings = GUIDED) -> Path:
    """The page of the model that ``tiny_model`` makes."""
    path.write_bytes(build_page(*tiny_model(names, sampling)))
    return path


def tiny_model(
    names: tuple[str, ...], sampling: SamplingSettings = GUIDED
) -> tuple[ModelDescription, Denoiser]:
    """A model of random weights for pictures of 8x8 pixels in colour."""
    architecture = tiny.config(channels=3, classes=len(names))
    description = replace(
        tiny.description(sampling=sampling), architecture=architecture, class_names=names
    )
    schedule = NoiseSchedule.from_config(description.schedule)
    return description, Denoiser(tiny.network(architecture), schedule, "v_prediction")


def address(page: Page, **settings: str) -> str:
    """The address, once it holds the settings."""
    for name, value in settings.items():
        expect(page).to_have_url(re.compile(f"[#&]{name}={re.escape(value)}(&|$)"))
    return page.url


def wait_for_film(page: Page, count: int, row: str = "first") -> None:
    expect(page.locator(f"#draw-{row} .film canvas")).to_have_count(count, timeout=20_000)


def encoded(page: Page, selector: str) -> str:
    """A canvas, to compare with itself; a large one takes seconds as numbers."""
    found = page.locator(selector).evaluate("canvas => canvas.toDataURL()")
    assert isinstance(found, str)
    return found


def grey(page: Page, selector: str) -> list[int]:
    """The red of each pixel."""
    found = page.locator(selector).evaluate(PIXELS)
    assert isinstance(found, list)
    return found[::4]


def colours(page: Page, selector: str) -> Tensor:
    """A canvas of 8x8 pixels, ``(3, 8, 8)``."""
    found = page.locator(selector).evaluate(PIXELS)
    return torch.tensor(found).view(8, 8, 4).permute(2, 0, 1)[:3]
