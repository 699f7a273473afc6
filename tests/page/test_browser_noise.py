"""The part of a page that noises pictures, in a real browser, offline."""

import re
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import Page, expect
from torch import Tensor

from diffcli.core.generate import Init, generate
from diffcli.core.noise import ImageNoise
from diffcli.data.images import to_model_range, to_pixels
from diffcli.files.pictures import to_pillow
from tests.page.browsing import (
    IN_BROWSER,
    address,
    colours,
    encoded,
    grey,
    tiny_model,
    tiny_page,
    wait_for_film,
)
from tests.page.scripts import compute

pytestmark = IN_BROWSER


def test_noise(page: Page, tmp_path: Path) -> None:
    page.goto(tiny_page(tmp_path / "a.html", ("one", "two", "three")).as_uri())
    wait_for_film(page, 4)
    drawn = grey(page, "#draw-first [data-part=to]")
    page.click("#draw-use")
    assert grey(page, "#noise-picture") == drawn
    # Pictures in colour are drawn on white.
    page.click("#noise-clear")
    assert set(grey(page, "#noise-picture")) == {255}
    page.select_option("#noise-ink", "white")
    page.click("#noise-clear")
    assert set(grey(page, "#noise-picture")) == {0}
    box = page.locator("#noise-picture").bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + box["height"] / 2)  # in one leap
    page.mouse.up()
    row = torch.tensor(grey(page, "#noise-picture")).view(8, 8)
    assert row[3:5].min() > 100
    assert row[[0, 7]].max() == 0
    page.select_option("#noise-ink", "black")
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.up()
    inked = torch.tensor(grey(page, "#noise-picture")).view(8, 8)
    assert inked[3:5, 3:5].max() < 80
    assert (inked <= row).all()
    row = inked
    noisy = grey(page, "#noise-x")
    page.fill("#noise-t", "0")
    nearly = torch.tensor(grey(page, "#noise-x"))
    assert (nearly - row.flatten()).abs().float().mean() < 15
    assert grey(page, "#noise-x") != noisy
    page.click("#noise-new")
    assert grey(page, "#noise-x") != nearly.tolist()
    page.fill("#noise-t", "12")
    page.click("#noise-denoise")
    expect(page.locator("#noise-status")).to_have_text("denoised", timeout=10_000)
    page.click("#noise-guess")
    expect(page.locator("#noise-status")).to_contain_text("most probable label", timeout=20_000)
    Image.new("RGB", (40, 20), (255, 0, 0)).save(tmp_path / "red.png")
    open_picture(page, tmp_path / "red.png")
    expect(page.locator("#noise-status")).to_have_text("")
    assert set(grey(page, "#noise-picture")) == {255}
    (tmp_path / "text.png").write_text("no picture")
    page.set_input_files("#noise-file", tmp_path / "text.png")
    expect(page.locator("#noise-status")).to_contain_text("no picture")


def test_it_shows_what_the_package_computes(page: Page, tmp_path: Path) -> None:
    names = ("one", "two", "three")
    description, denoiser = tiny_model(names)
    path = tiny_page(tmp_path / "a.html", names)
    pixels = torch.randint(0, 256, (3, 8, 8), generator=torch.Generator().manual_seed(3))
    to_pillow(pixels.to(torch.uint8)).save(tmp_path / "picture.png")
    page.goto(f"{path.as_uri()}#part=noise&noise-t=9&noise-label=1")
    open_picture(page, tmp_path / "picture.png")
    images, labels = to_model_range(pixels.to(torch.uint8))[None], torch.tensor([1])
    noise = ImageNoise([0], images.shape[1:], torch.device("cpu"))()
    x = denoiser.schedule.add_noise(images, 9, noise)
    estimate = denoiser.clipped(x, 9, labels).x0
    settings = replace(description.sampling, steps=16, guidance_scale=1.0)
    *_, last = generate(denoiser, labels, [0], settings, Init(images), strength=0.5)

    def near(selector: str, expected: Tensor) -> bool:
        difference = colours(page, selector) - to_pixels(expected)[0].int()
        return bool(difference.abs().max() <= 2)

    assert near("#noise-picture", images)
    assert near("#noise-x", x)
    page.wait_for_timeout(200)  # for the estimate of this picture, not of the one before
    assert near("#noise-estimate", estimate)
    page.click("#noise-denoise")
    expect(page.locator("#noise-status")).to_have_text("denoised")
    assert near("#noise-x", last.x)
    assert page.locator("#noise-x-caption").inner_text() == "x: denoised"
    page.click("#noise-guess")
    call = ["posterior", images.flatten().tolist(), 8]
    shares = dict(zip(names, compute(call, page=path.read_bytes())[0], strict=True))
    best, second, _ = sorted(names, key=shares.__getitem__, reverse=True)
    assert shares[second] > 0.01
    expect(page.locator("#noise-status")).to_have_text(
        f"most probable label: {best} ({shares[best]:.0%}), then {second} ({shares[second]:.0%})"
        .replace("%", " %"),
        timeout=20_000,
    )  # fmt: skip
    # It is about the picture, whatever the noise; what was denoised is gone.
    page.fill("#noise-t", "10")
    assert page.locator("#noise-status").inner_text().startswith("most probable label")
    assert page.locator("#noise-x-caption").inner_text() == "x: with noise"
    page.click("#noise-denoise")
    expect(page.locator("#noise-status")).to_have_text("denoised")
    page.fill("#noise-t", "11")
    expect(page.locator("#noise-status")).to_have_text("")


def open_picture(page: Page, file: Path) -> None:
    """Open another picture, and wait until it is there: it is read in the background."""
    before = encoded(page, "#noise-picture")
    page.set_input_files("#noise-file", file)
    for _ in range(500):
        if encoded(page, "#noise-picture") != before:
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"{file} is not shown")


def test_fine_patterns_become_grey_and_a_file_can_be_opened_again(
    page: Page, tmp_path: Path
) -> None:
    stripes = Image.new("L", (600, 600))
    stripes.putdata([255 * (x % 2) for _ in range(600) for x in range(600)])
    stripes.save(tmp_path / "stripes.png")
    path = tiny_page(tmp_path / "a.html", ("one", "two"))
    page.goto(f"{path.as_uri()}#part=noise")
    for _ in range(2):
        page.click("#noise-clear")
        assert set(grey(page, "#noise-picture")) == {255}
        open_picture(page, tmp_path / "stripes.png")
        found = grey(page, "#noise-picture")
        assert 100 < min(found) <= max(found) < 155


def test_a_model_that_gives_no_likelihood_names_no_label(page: Page, digits: Path) -> None:
    page.goto(f"{digits.as_uri()}#part=noise")
    expect(page.locator("#noise-denoise")).to_be_visible()
    expect(page.locator("#noise-guess")).to_be_hidden()
    expect(page.locator("#noise-posterior")).to_be_hidden()
    # Digits are white on black.
    assert page.input_value("#noise-ink") == "white"
    assert set(grey(page, "#noise-picture")) == {0}


def test_a_link_keeps_the_settings_of_the_noise(page: Page, tmp_path: Path) -> None:
    path = tiny_page(tmp_path / "a.html", ("one", "two", "three"))
    page.goto(f"{path.as_uri()}#part=noise")
    noise = grey(page, "#noise-x")
    page.fill("#noise-t", "17")
    page.select_option("#noise-label select", "1")
    page.click("#noise-new")
    page.click("#noise-new")
    shown = grey(page, "#noise-x")
    link = address(page, **{"noise-t": "17", "noise-label": "1", "noise-seed": "2"})
    page.goto("about:blank")
    page.goto(link)
    assert grey(page, "#noise-x") == shown != noise
    assert page.locator("#noise-t-value").inner_text().startswith("17: ")
    assert page.input_value("#noise-label select") == "1"
    # One that is changed by hand is followed.
    address(page, **{"noise-seed": "2"})
    page.evaluate("location.hash = location.hash.replace('noise-t=17', 'noise-t=3')")
    expect(page.locator("#noise-t-value")).to_have_text(re.compile("^3: "))
    # The last seed is followed by the first, and others are none.
    page.evaluate("location.hash = location.hash.replace('noise-seed=2', 'noise-seed=1e99')")
    address(page, **{"noise-seed": "4294967295"})
    page.click("#noise-new")
    address(page, **{"noise-seed": "0"})


def test_denoising_goes_on_when_the_window_changes(page: Page, tmp_path: Path) -> None:
    path = tiny_page(tmp_path / "a.html", ("one", "two", "three"))
    page.goto(f"{path.as_uri()}#part=noise")
    noise = grey(page, "#noise-x")
    page.evaluate("""() => {
        document.getElementById("noise-denoise").click();
        window.dispatchEvent(new Event("resize"));
    }""")
    expect(page.locator("#noise-status")).to_have_text("denoised", timeout=10_000)
    denoised, estimate = grey(page, "#noise-x"), grey(page, "#noise-estimate")
    assert denoised != noise
    page.set_viewport_size({"width": 390, "height": 800})
    chart = page.locator("#noise-histogram")
    box = chart.bounding_box()
    assert box
    assert chart.evaluate("canvas => canvas.width") == round(box["width"])
    # An estimate asked for by then would be there before these pictures are.
    page.click("#tab-draw")
    wait_for_film(page, 4)
    page.click("#tab-noise")
    assert grey(page, "#noise-x") == denoised
    assert grey(page, "#noise-estimate") == estimate
