"""Timesteps and points in a plane, in a real browser, offline."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.page.browsing import (
    IN_BROWSER,
    address,
    encoded,
    tiny_page,
)

pytestmark = IN_BROWSER


@pytest.mark.long
def test_time_and_plane(page: Page, tmp_path: Path) -> None:
    page.goto(tiny_page(tmp_path / "a.html", ("one", "two", "three")).as_uri())
    page.click("#tab-draw")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#plane")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#time")).to_be_visible()
    expect(page.locator("#draw")).to_be_hidden()
    before = encoded(page, "#time-schedules")
    page.fill("#time-t", "19")
    assert page.locator("#time-t-value").inner_text().startswith("19: ")
    page.select_option("#time-scale", "log-snr")
    assert encoded(page, "#time-schedules") != before
    # The picture of the embedding has a row for each timestep.
    assert page.locator("#time-embedding").evaluate("canvas => [canvas.width, canvas.height]") == [
        32,
        20,
    ]
    page.click("#tab-plane")
    page.select_option("#plane-sampler", "ddpm")
    page.click("#plane-play")
    expect(page.locator("#plane-t-value")).to_have_text(re.compile(r"^0, "), timeout=120_000)
    expect(page.locator("#plane-play")).to_have_text("Play")
    page.click("#plane-restart")
    page.click("#plane-play")
    page.click("#tab-time")
    page.click("#tab-plane")
    expect(page.locator("#plane-play")).to_have_text("Play")  # it does not go on unseen
    # A finger that begins to swipe adds nothing.
    page.locator("#plane-field").dispatch_event("pointerdown", {"clientX": 300, "clientY": 400})
    assert page.input_value("#plane-data") == "spiral"
    page.select_option("#plane-data", "own points")
    page.locator("#plane-field").click(position={"x": 300, "y": 120})
    assert page.input_value("#plane-data") == "own points"
    field = encoded(page, "#plane-field")
    page.fill("#plane-t", "150")
    assert encoded(page, "#plane-field") != field


def test_a_link_keeps_the_timestep_of_the_plane(page: Page, digits: Path) -> None:
    page.goto(f"{digits.as_uri()}#part=plane")
    beginning = encoded(page, "#plane-field")
    address(page, **{"plane-t": "299"})
    page.fill("#plane-t", "150")
    field = encoded(page, "#plane-field")
    link = address(page, **{"plane-t": "150"})
    page.goto("about:blank")
    page.goto(link)
    assert page.input_value("#plane-t") == "150"
    assert encoded(page, "#plane-field") == field
    # Particles on their way are no setting: a link shows where they begin.
    page.click("#plane-play")
    expect(page.locator("#plane-t-value")).to_have_text(re.compile("^2[0-8]"), timeout=20_000)
    page.click("#plane-play")
    link = address(page, **{"plane-t": "299"})
    page.goto("about:blank")
    page.goto(link)
    assert encoded(page, "#plane-field") == beginning
    page.fill("#plane-t", "150")
    address(page, **{"plane-t": "150"})
    page.click("#plane-restart")
    address(page, **{"plane-t": "299"})
    assert encoded(page, "#plane-field") == beginning
    page.fill("#plane-t", "150")
    page.fill("#plane-t", "299")
    assert encoded(page, "#plane-field") == beginning


def test_another_address_sends_new_particles(page: Page, digits: Path) -> None:
    def shown(settings: str) -> str:
        page.goto(f"{digits.as_uri()}#part=plane&{settings}&plane-t=299")
        return encoded(page, "#plane-field")

    rings = shown("points=rings")
    shown("points=spiral")
    page.click("#plane-play")
    expect(page.locator("#plane-t-value")).to_have_text(re.compile("^2[0-8]"), timeout=20_000)
    page.click("#plane-play")
    assert shown("points=rings") == rings
    page.goto(f"{digits.as_uri()}#part=plane&points=rings&plane-t=abc")
    assert page.input_value("#plane-t") == "299"


def test_own_points_by_keyboard_and_in_a_link(page: Page, digits: Path) -> None:
    page.goto(f"{digits.as_uri()}#part=plane&points=own points")
    page.focus("#plane-field")
    empty = encoded(page, "#plane-field")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    moved = encoded(page, "#plane-field")
    assert moved != empty
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press(" ")
    address(page, own="0.20%2C0.10%3B0.20%2C-0.10")
    page.keyboard.press("Delete")
    link = address(page, own="0.20%2C0.10")
    with_one = encoded(page, "#plane-field")
    page.locator("#plane-field").blur()
    without_cross = encoded(page, "#plane-field")
    assert without_cross != with_one
    page.goto("about:blank")
    page.goto(link.replace("own=", "own=x%3B9%2C9%3B<b>%3B"))
    assert encoded(page, "#plane-field") == without_cross
