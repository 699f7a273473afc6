"""The part of a page that draws, and its address, in a real browser, offline."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from playwright.sync_api import Browser, Page, expect

from diffcli.core.generate import generate
from diffcli.core.noise import ImageNoise
from diffcli.data.images import to_pixels
from diffcli.files.checkpoint import load_model
from diffcli.files.locations import find_model
from tests.page.browsing import (
    GUIDED,
    IN_BROWSER,
    address,
    encoded,
    grey,
    tiny_page,
    wait_for_film,
)

pytestmark = IN_BROWSER


def test_it_draws_the_digit_of_the_seed(page: Page, digits: Path) -> None:
    page.goto(f"{digits.as_uri()}#label=7&seed=5")
    wait_for_film(page, 2)
    description, denoiser = load_model(find_model(Path("mnist-2step")))
    *_, last = generate(denoiser, torch.tensor([7]), [5], description.sampling)
    shown = torch.tensor(grey(page, "#draw-first [data-part=to]"))
    assert (shown - to_pixels(last.x).flatten().int()).abs().max() <= 2
    assert page.locator("#draw-command").inner_text() == (
        "diffcli sample -m mnist-2step --label 7 -n 1 --seed 5 --sampler consistency "
        "--steps 2 --guidance 1"
    )
    assert "1,543,492 parameters" in page.locator("#about").inner_text()


@pytest.mark.parametrize("scale", [1.15, 7.5])
def test_the_guidance_of_the_model_is_kept_until_it_is_changed(
    page: Page, tmp_path: Path, scale: float
) -> None:
    sampling = replace(GUIDED, guidance_scale=scale, guidance_interval=(4, 9))
    page.goto(tiny_page(tmp_path / "a.html", ("one", "two"), sampling).as_uri())
    wait_for_film(page, 4)
    command = page.locator("#draw-command")
    assert command.inner_text().endswith(f"--guidance {scale} --guidance-interval 4-9")
    title = page.locator("#draw-first h2").inner_text()
    assert title.endswith(f", guidance {scale} at t = 4 to 9")
    page.fill("#draw-guidance", "1.234")
    wait_for_film(page, 4)
    assert command.inner_text().endswith("--guidance 1.2")
    assert page.input_value("#draw-guidance") == "1.2"
    page.focus("#draw-guidance")
    page.keyboard.press("ArrowRight")
    expect(command).to_have_text(re.compile("--guidance 1[.]3$"))


@pytest.mark.parametrize(
    ("name", "written"),
    [("cat", "cat"), ("v1.5-x", "v1.5-x"), ("-x", "0"), ("--help", "0"), ("a b", "0")],
)
def test_the_command_names_the_model_and_the_label(
    page: Page, tmp_path: Path, name: str, written: str
) -> None:
    path = tiny_page(tmp_path / "a.html", (name, "other"))
    page.goto(f"{path.as_uri()}#label=0")
    expect(page.locator("#draw-command")).to_have_text(
        f"diffcli sample -m MODEL --label {written} -n 1 --seed 42 --sampler ddim "
        "--steps 4 --guidance 2"
    )


@pytest.mark.parametrize(("name", "written"), [("a b", "'a b'"), ("it's", r"'it'\''s'")])
def test_a_label_whose_number_is_the_name_of_another_is_named(
    page: Page, tmp_path: Path, name: str, written: str
) -> None:
    path = tiny_page(tmp_path / "a.html", (name, "0"))
    page.goto(f"{path.as_uri()}#label=0")
    expect(page.locator("#draw-command")).to_contain_text(f" --label={written} -n 1")


def test_the_same_settings_in_both_rows_draw_the_same(page: Page, tmp_path: Path) -> None:
    sampling = replace(GUIDED, guidance_interval=(4, 9))
    path = tiny_page(tmp_path / "a.html", ("one", "two"), sampling)
    page.goto(f"{path.as_uri()}#compare=guidance&other-guidance=2")
    wait_for_film(page, 4, "second")
    assert encoded(page, "#draw-second [data-part=to]") == encoded(
        page, "#draw-first [data-part=to]"
    )


def test_what_is_shown_while_another_picture_is_drawn(page: Page, tmp_path: Path) -> None:
    page.goto(tiny_page(tmp_path / "a.html", ("one", "two")).as_uri())
    wait_for_film(page, 4)
    expect(page.locator("#draw-use")).to_be_enabled()
    page.fill("#draw-steps", "20")
    wait_for_film(page, 20)
    # An early step is looked at while later ones are drawn.
    at_once = page.evaluate("""() => {
        const [film] = document.querySelectorAll("#draw-first .film");
        const position = document.getElementById("draw-step");
        new MutationObserver(() => {
            if (film.children.length !== 3) return;
            position.value = "1";
            position.dispatchEvent(new Event("input"));
        }).observe(film, { childList: true });
        document.getElementById("draw-new-seed").click();
        return [
            document.getElementById("draw-first").classList.contains("stale"),
            document.getElementById("draw-use").disabled,
        ];
    }""")
    assert at_once == [True, True]
    wait_for_film(page, 20)
    expect(page.locator("#draw-use")).to_be_enabled()
    assert page.locator("#draw-step-value").inner_text() == "2 of 20"
    assert page.locator("#draw-first.stale").count() == 0


def test_before_a_step_is_the_picture_after_the_one_before(page: Page, tmp_path: Path) -> None:
    page.goto(tiny_page(tmp_path / "a.html", ("one", "two")).as_uri())
    wait_for_film(page, 4)
    page.fill("#draw-step", "0")
    first, noise = (
        encoded(page, "#draw-first [data-part=to]"),
        grey(page, "#draw-first [data-part=from]"),
    )
    page.fill("#draw-step", "1")
    assert encoded(page, "#draw-first [data-part=from]") == first
    start = ImageNoise([42], (3, 8, 8), torch.device("cpu"))()[0, 0]
    expected = to_pixels(start[None, None]).flatten().int()
    assert (torch.tensor(noise) - expected).abs().max() <= 1


def test_a_failure_is_said(browser: Browser, tmp_path: Path) -> None:
    path = tiny_page(tmp_path / "a.html", ("one", "two"))
    path.write_bytes(path.read_bytes().replace(b'"v_prediction"', b'"none"'))
    page = browser.new_page()
    page.goto(path.as_uri())
    expect(page.locator("#failure")).to_contain_text("The page has failed: ")
    page.close()


def test_long_names_do_not_make_a_phone_scroll_sideways(page: Page, tmp_path: Path) -> None:
    names = tuple(letter * 100 for letter in "abc")
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(tiny_page(tmp_path / "a.html", names).as_uri())
    for part in ("draw", "noise", "time", "plane"):
        page.click(f"#tab-{part}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, part


def test_drawing(page: Page, tmp_path: Path) -> None:
    page.goto(tiny_page(tmp_path / "a.html", ("one", "two", "three")).as_uri())
    wait_for_film(page, 4)
    last = grey(page, "#draw-first [data-part=to]")
    page.fill("#draw-step", "1")
    assert page.locator("#draw-step-value").inner_text() == "2 of 4"
    assert grey(page, "#draw-first [data-part=to]") != last
    numbers = page.locator("#draw-first [data-part=numbers]").inner_text().split()
    assert numbers[:3] == ["timestep", "14", "9"]
    assert page.locator("#draw-first [data-part=formula]").inner_text().startswith("x₉ = ")
    page.click("#draw-play")
    expect(page.locator("#draw-step-value")).to_have_text("4 of 4", timeout=5000)
    page.select_option("#draw-compare", "label")
    wait_for_film(page, 4, "second")
    assert page.locator("#draw-second h2").inner_text() == "one, guidance 2"
    page.select_option("#draw-compare", "guidance")
    page.fill("#draw-other-guidance", "0")
    expect(page.locator("#draw-second h2")).to_have_text("three, guidance 0")
    page.fill("#draw-steps", "9")
    wait_for_film(page, 9)
    pictures = {encoded(page, "#draw-first [data-part=to]")}
    texts = {page.locator("#draw-sampler-text").inner_text()}
    for sampler in ("ddpm", "dpmpp", "dpmpp-sde", "consistency"):
        page.select_option("#draw-sampler", sampler)
        expect(page.locator("#draw-command")).to_contain_text(f"--sampler {sampler} ")
        wait_for_film(page, 9)
        pictures.add(encoded(page, "#draw-first [data-part=to]"))
        texts.add(page.locator("#draw-sampler-text").inner_text())
    assert (len(pictures), len(texts)) == (5, 5)
    assert all(text.endswith(".") for text in texts)
    page.fill("#draw-seed", "99999999999")
    page.locator("#draw-seed").blur()
    before = page.input_value("#draw-seed")
    assert before == "4294967295"
    page.click("#draw-new-seed")
    assert page.input_value("#draw-seed") != before
    # The address brings all of it back.
    page.select_option("#draw-label select", "1")
    wait_for_film(page, 9)
    shown = grey(page, "#draw-first [data-part=to]")
    link = address(page, label="1")
    page.goto("about:blank")
    page.goto(link)
    wait_for_film(page, 9)
    assert grey(page, "#draw-first [data-part=to]") == shown
    assert page.input_value("#draw-compare") == "guidance"


def test_the_address_follows_a_slider(page: Page, tmp_path: Path) -> None:
    """Chromium drops, with a warning, more than 200 changes of it within ten seconds."""
    path = tiny_page(tmp_path / "a.html", ("one", "two", "three"))
    page.goto(f"{path.as_uri()}#part=time")
    page.locator("#time-t").evaluate("""slider => {
        for (let i = 0; i <= 400; i++) {
            slider.value = i % 20;
            slider.dispatchEvent(new Event("input"));
        }
    }""")
    address(page, t="0")


def test_names_are_text_and_many_are_searched(page: Page, tmp_path: Path) -> None:
    bad = "</script><img src=x onerror=document.body.remove()>"
    names = (bad, *(f"class {i}" for i in range(30)))
    page.goto(tiny_page(tmp_path / "a.html", names).as_uri())
    wait_for_film(page, 4)
    page.fill("#draw-label input", bad)
    page.keyboard.press("Enter")
    expect(page.locator("#draw-first h2")).to_have_text(f"{bad}, guidance 2")
    page.fill("#draw-label input", "no such class")
    page.keyboard.press("Enter")
    assert page.input_value("#draw-label input") == bad
    page.fill("#draw-label input", "class 29")
    page.keyboard.press("Enter")
    expect(page.locator("#draw-first h2")).to_have_text("class 29, guidance 2")
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("fragment", ["label=99&steps=x&sampler=none&part=none", "%%%", "seed=-5"])
def test_an_address_is_data(page: Page, tmp_path: Path, fragment: str) -> None:
    names = ("one", "two", "three")
    page.goto(f"{tiny_page(tmp_path / 'a.html', names).as_uri()}#{fragment}")
    expect(page.locator("#draw-first [data-part=formula]")).not_to_be_empty(timeout=10_000)
    expect(page.locator("#failure")).to_be_hidden()
    expect(page.locator("#draw")).to_be_visible()
    assert page.input_value("#draw-steps") == "4"  # that of the model


def test_a_label_in_an_address_is_a_whole_number(page: Page, tmp_path: Path) -> None:
    path = tiny_page(tmp_path / "a.html", ("one", "two", "three"))
    page.goto(f"{path.as_uri()}#label=1.5")
    wait_for_film(page, 4)
    assert page.locator("#draw-first h2").inner_text() == "two, guidance 2"
    assert page.input_value("#draw-label select") == "1"
    address(page, label="1")


@pytest.mark.long
def test_memory_is_flat(page: Page, tmp_path: Path) -> None:
    page.goto(tiny_page(tmp_path / "a.html", ("one", "two", "three")).as_uri())
    session = page.context.new_cdp_session(page)

    def used() -> float:
        session.send("HeapProfiler.collectGarbage")
        return float(session.send("Runtime.getHeapUsage")["usedSize"])

    def draw(first: int, count: int) -> None:
        for seed in range(first, first + count):
            page.fill("#draw-seed", str(seed))
            wait_for_film(page, 4)

    draw(0, 20)
    before = used()
    draw(20, 200)
    assert used() - before < 300_000
