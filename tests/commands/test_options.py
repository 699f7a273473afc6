"""The parsers of options."""

import math
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from diffcli.commands.console import warn_of_copies
from diffcli.commands.options import (
    Timesteps,
    chosen_timesteps,
    parse_duration,
    parse_interval,
    parse_sheet,
    parse_size,
    parse_target,
    parse_timesteps,
)
from diffcli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (" 0.5s ", 0.5), ("65m", 3900)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "0", "0s", "0.0h", "-5", "5d", "m", "1h30m", "1e3", "nan", "inf", "five", "1 h", "٣m"],
)
def test_no_durations(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"write it like 90s, 10m or 1\.5h"):
        parse_duration(text)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_wrong_usage(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except typer.BadParameter:
        return
    assert 0 < seconds < math.inf


@pytest.mark.parametrize(
    ("text", "size"), [("32", (32, 32)), ("48x32", (32, 48)), ("1x9999", (9999, 1))]
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "0", "32x", "x32", "032", "3.5", "-32", "10000", "32*32", "1٣"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write it like 32 or 48x32"):
        parse_size(text)


@pytest.mark.parametrize("text", ["50-250", " 0-0 "])
def test_intervals(text: str) -> None:
    first, last = parse_interval(text)
    assert f"{first}-{last}" == text.strip()


@pytest.mark.parametrize("text", ["9", "9-3", "-1-3", "1-", "a-b", "1.5-3", "", "٣-٩"])
def test_no_intervals(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write it like 50-250"):
        parse_interval(text)


@pytest.mark.parametrize("text", ["", "steps=", "steps=٣", "steps=1,", "size=3", "steps=1.5"])
def test_no_sheets(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"must be like guidance|whole numbers"):
        parse_sheet(text)


def test_a_place_on_a_drive_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``Z:`` on Windows: not even the last parent exists."""
    monkeypatch.setattr(Path, "exists", lambda _: False)
    for output, folder in (("a.png", None), (None, Path("a"))):
        with pytest.raises(UsageError, match=r"there is no .*, and so no a.*; name another place"):
            parse_target(output, folder)


@pytest.mark.parametrize(
    ("given", "timesteps"),
    [(["150"], [150]), (["0,50,299"], [0, 50, 299]), (["7", "3, 7", "1"], [7, 3, 1])],
)
def test_timesteps(given: list[str], timesteps: list[int]) -> None:
    assert chosen_timesteps([parse_timesteps(text) for text in given], 300) == timesteps


@pytest.mark.parametrize("text", ["-1", "", "1,", "1.5", "x", "٣", "9" * 50])
def test_no_timesteps(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="write it like 150 or 0,50,150"):
        parse_timesteps(text)


def test_timesteps_beyond_the_last_one() -> None:
    with pytest.raises(UsageError, match=r"timestep 300 is not in 0 \.\. 299"):
        chosen_timesteps([Timesteps([0, 300])], 300)


def test_copies_are_a_warning_if_they_are_no_chance(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_copies(0.1, 500)
    warn_of_copies(0.29, 5)
    assert capsys.readouterr().err == ""
    warn_of_copies(0.31, 500)
    warning = capsys.readouterr().err
    assert warning.startswith("warning: about 31% of the pictures are closer to a training image")
    assert warning.count("\n") == 1
