"""``diffcli sample --from``: what options change of a picture that is drawn again."""

from pathlib import Path

import pytest

from diffcli.core.parameters import SamplingSettings
from diffcli.files.checkpoint import save_model
from diffcli.sampling.provenance import read_provenance
from tests import tiny
from tests.commands.conftest import Draw
from tests.conftest import Command

GUIDED = SamplingSettings("dpmpp", 4, 1.5, (8, 15))


@pytest.fixture
def draw_guided(draw: Draw) -> Draw:
    """Sampling with a model whose own guidance applies at some timesteps only."""
    path = Path("guided.safetensors")
    save_model(path, tiny.description(sampling=GUIDED), tiny.network().state_dict())
    return lambda *arguments: draw("--model", path, *arguments)


@pytest.mark.parametrize("layout", [["--strip"], ["--sheet", "steps=2,4"]])
def test_an_animation_becomes_a_still_picture(draw: Draw, layout: list[str]) -> None:
    drawn = ("-l", "1", "-n", "2", "--seed", "3")
    draw(*drawn, "-o", "a.gif")
    assert draw("--from", "a.gif", *layout)[0] == "grid.png\n"
    draw(*drawn, *layout, "-o", "same.png")
    assert Path("grid.png").read_bytes() == Path("same.png").read_bytes()


def test_an_animation_stays_one_where_a_strip_is_not_wanted(draw: Draw) -> None:
    draw("-l", "1", "-n", "2", "--seed", "3", "-o", "a.gif")
    assert draw("--from", "a.gif", "--no-strip")[0] == "grid.gif\n"


def test_an_animation_in_a_png_is_drawn_again_as_an_apng(draw: Draw) -> None:
    draw("-l", "1", "-n", "2", "--seed", "3", "-o", "a.apng")
    Path("a.apng").rename("a.png")
    assert draw("--from", "a.png")[0] == "grid.apng\n"
    assert Path("a.png").read_bytes() == Path("grid.apng").read_bytes()


def test_the_name_of_an_animation_is_checked_before_the_work(
    draw: Draw, diffcli: Command, model: Path
) -> None:
    draw("-l", "1", "-n", "1", "-o", "a.gif")
    Path("grid.gif").mkdir()
    result = diffcli("sample", "-m", model, "--from", "a.gif")
    assert result.is_one_line_error(2, "grid.gif is a folder")


@pytest.mark.parametrize(
    "changes",
    [
        ["--guidance", "2"],
        ["--guidance", "1.5"],
        ["--sheet", "guidance=0,2"],
        ["--sheet", "guidance=1.5,2"],
    ],
)
def test_guidance_is_that_of_a_picture_drawn_without_another_before(
    draw_guided: Draw, changes: list[str]
) -> None:
    drawn = ("-l", "0,2", "-n", "1", "--seed", "3")
    draw_guided(*drawn, "-o", "own.png")
    draw_guided("--from", "own.png", *changes, "-o", "changed.png")
    draw_guided(*drawn, *changes, "-o", "same.png")
    assert Path("changed.png").read_bytes() == Path("same.png").read_bytes()
    assert read_provenance(Path("changed.png")).request.settings.guidance_interval is None


def test_other_layouts_than_a_sheet_of_guidance_have_the_guidance_of_the_model(
    draw_guided: Draw,
) -> None:
    drawn = ("-l", "1", "-n", "1", "--seed", "3")
    draw_guided(*drawn, "--sheet", "guidance=0,2", "-o", "sheet.png")
    _, said = draw_guided("--from", "sheet.png", "-o", "row.gif")
    assert "sheet.png is a sheet of guidance; its rows are left out" in said
    for layout in (["--strip"], ["--sheet", "steps=2,4"]):
        draw_guided("--from", "sheet.png", *layout, "-o", "left.png", "--force")
        draw_guided(*drawn, *layout, "-o", "same.png", "--force")
        assert Path("left.png").read_bytes() == Path("same.png").read_bytes()
    draw_guided("--from", "sheet.png", "-o", "again.png")
    assert Path("again.png").read_bytes() == Path("sheet.png").read_bytes()


def test_other_layouts_than_a_sheet_of_eta_have_the_eta_of_the_model(draw: Draw) -> None:
    drawn = ("-l", "1", "-n", "1", "--seed", "3", "--sampler", "dpmpp-sde")
    draw(*drawn, "--sheet", "eta=0,0.5", "-o", "sheet.png")
    draw("--from", "sheet.png", "--strip", "-o", "left.png")
    draw(*drawn, "--strip", "-o", "same.png")
    assert Path("left.png").read_bytes() == Path("same.png").read_bytes()
    draw("--from", "sheet.png", "-o", "again.png")
    assert Path("again.png").read_bytes() == Path("sheet.png").read_bytes()


def test_a_sheet_keeps_the_interval_that_was_given_with_it(draw_guided: Draw) -> None:
    sheet = ("-n", "1", "--seed", "3", "--sheet", "guidance=0,2", "--guidance-interval", "3-15")
    draw_guided(*sheet, "-o", "first.png")
    draw_guided("--from", "first.png", "-o", "again.png")
    assert Path("first.png").read_bytes() == Path("again.png").read_bytes()


@pytest.mark.parametrize(("varied", "values"), [("guidance", "0,2"), ("steps", "2,4")])
def test_one_value_beside_the_rows_of_a_sheet_is_refused(
    draw: Draw, diffcli: Command, model: Path, varied: str, values: str
) -> None:
    draw("-n", "1", "--sheet", f"{varied}={values}", "-o", "sheet.png")
    result = diffcli("sample", "-m", model, "--from", "sheet.png", f"--{varied}", "3")
    assert result.is_one_line_error(2, f"differ in {varied}; leave --{varied} out")
    draw("--from", "sheet.png", "--no-strip", f"--{varied}", "3", "-o", "grid.png")
    assert read_provenance(Path("grid.png")).sheet is None
