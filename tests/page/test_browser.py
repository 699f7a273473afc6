"""A page in a real browser, offline: every control, by pointer and by keyboard."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from diffcli.core.denoiser import Denoiser
from diffcli.core.generate import generate
from diffcli.core.parameters import SamplingSettings
from diffcli.core.schedule import NoiseSchedule
from diffcli.data.images import to_pixels
from diffcli.files.checkpoint import load_model
from diffcli.files.locations import find_model
from diffcli.page.build import build_page
from tests import tiny
from tests.page.chromium import CHROMIUM

pytestmark = [
    pytest.mark.browser,
    pytest.mark.process,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH"),
]

PIXELS = """canvas => Array.from(
    canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        # Without a sandbox, since tests may run as root; the page is our own.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox"],
            # Playwright lifts a limit that pages have to keep to.
            ignore_default_args=["--disable-ipc-flooding-protection"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An empty page without a network; whatever fails or asks for something there is an error."""
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 900})
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    # The tests read pixels often, the page does not.
    hint = "Canvas2D: Multiple readback operations"
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("file:", "blob:")) else troubles.append(request.url)
        ),
    )
    yield page
    context.close()
    assert [trouble for trouble in troubles if not trouble.startswith(hint)] == []


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "digits.html"
    path.write_bytes(build_page(*load_model(find_model(Path("mnist-2step"))), "mnist-2step"))
    return path


GUIDED = SamplingSettings("ddim", 4, guidance_scale=2.0)


def tiny_page(path: Path, names: tuple[str, ...], sampling: SamplingSettings = GUIDED) -> Path:
    architecture = tiny.config(channels=3, classes=len(names))
    description = replace(
        tiny.description(sampling=sampling), architecture=architecture, class_names=names
    )
    schedule = NoiseSchedule.from_config(description.schedule)
    denoiser = Denoiser(tiny.network(architecture), schedule, "v_prediction")
    path.write_bytes(build_page(description, denoiser))
    return path


def address(page: Page, **settings: str) -> str:
    """The address, once it holds the settings."""
    for name, value in settings.items():
        expect(page).to_have_url(re.compile(f"[#&]{name}={re.escape(value)}(&|$)"))
    return page.url


def film(page: Page, row: str = "first") -> int:
    return page.locator(f"#draw-{row} .film canvas").count()


def wait_for_film(page: Page, count: int, row: str = "first") -> None:
    expect(page.locator(f"#draw-{row} .film canvas")).to_have_count(count, timeout=20_000)


def encoded(page: Page, selector: str) -> str:
    """A canvas, to compare with itself; a large one takes seconds as numbers."""
    found = page.locator(selector).evaluate("canvas => canvas.toDataURL()")
    assert isinstance(found, str)
    return found


def grey(page: Page, selector: str) -> list[int]:
    found = page.locator(selector).evaluate(PIXELS)
    assert isinstance(found, list)
    return found[::4]


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
    for sampler in ("ddpm", "dpmpp", "dpmpp-sde", "consistency"):
        page.select_option("#draw-sampler", sampler)
        wait_for_film(page, 9)
    before = page.input_value("#draw-seed")
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


def test_noise(page: Page, tmp_path: Path) -> None:
    page.goto(tiny_page(tmp_path / "a.html", ("one", "two", "three")).as_uri())
    wait_for_film(page, 4)
    drawn = grey(page, "#draw-first [data-part=to]")
    page.click("#draw-use")
    assert grey(page, "#noise-picture") == drawn
    page.click("#noise-clear")
    assert set(grey(page, "#noise-picture")) == {0}
    box = page.locator("#noise-picture").bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 20, box["y"] + box["height"] / 2, steps=8)
    page.mouse.up()
    row = torch.tensor(grey(page, "#noise-picture")).view(8, 8)
    assert row[3:5].min() > 100
    assert row[[0, 7]].max() == 0
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
    page.set_input_files("#noise-file", tmp_path / "red.png")
    expect(page.locator("#noise-status")).to_have_text("")
    # The picture is read in the background, and nothing but itself says when it is there.
    for _ in range(500):
        if set(grey(page, "#noise-picture")) == {255}:
            break
        page.wait_for_timeout(20)
    assert set(grey(page, "#noise-picture")) == {255}
    (tmp_path / "text.png").write_text("no picture")
    page.set_input_files("#noise-file", tmp_path / "text.png")
    expect(page.locator("#noise-status")).to_contain_text("no picture")


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
