import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffcli.charts import text as charts_text
from diffcli.charts.colours import INK
from diffcli.charts.text import (
    elided,
    formula,
    line,
    line_height,
    paragraph,
    rotated,
    width_of,
)


@settings(deadline=None)
@given(st.text(max_size=80), st.integers(20, 300))
def test_elided_text_fits(text: str, width: int) -> None:
    short = elided(text, width)
    assert width_of(short) <= width
    assert short == text or (short.endswith("…") and text.startswith(short[:-1]))


@settings(deadline=None)
@given(st.text("iW ́", max_size=200), st.integers(-5, 300))
def test_elided_text_is_as_long_as_fits(text: str, width: int) -> None:
    short = elided(text, width)
    if short == text or len(short) > width:
        return
    assert text.startswith(short[:-1])
    longer = text[: len(short)]
    assert width_of(longer.rstrip() + "…") > width or longer.endswith(" ")


@pytest.mark.parametrize("letter", ["x", "́", " "])
def test_the_rest_of_a_long_name_is_not_measured(
    letter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def measure(text: str, size: int) -> int:
        measured.append(len(text))
        return width_of(text, size)

    monkeypatch.setattr(charts_text, "width_of", measure)
    short = elided(letter * 10**6, 120)
    assert short.endswith("…")
    assert len(short) <= 121
    assert sum(measured) < 2000


def test_control_characters_are_shown_as_in_messages() -> None:
    raw, shown = "a\n\x1b\u202eb", r"a\n\x1b\u202eb"
    assert width_of(raw) == width_of(shown)
    assert line(raw).tobytes() == line(shown).tobytes()


@pytest.mark.parametrize("symbol", "αᾱβεσπλ√·…−→±²äЖ")
def test_the_font_has_the_symbols_of_the_field(symbol: str) -> None:
    missing = line("\U0010fffd").tobytes()
    assert line(symbol).tobytes() != missing
    assert np.asarray(line(symbol)).min() < 200


def test_a_subscript_is_smaller_and_lower() -> None:
    plain, subscript = line("x0"), formula("x{0}")
    assert subscript.width < plain.width
    assert lowest_ink(subscript) > lowest_ink(plain)


def test_braces_in_plain_text_are_braces() -> None:
    assert line("{a}").width == width_of("{a}") > formula("{a}").width


def lowest_ink(picture: Image.Image) -> int:
    brightness = np.asarray(picture.convert("RGB"), dtype=int).sum(axis=2)
    return int((brightness < sum(INK) + 200).any(axis=1).nonzero()[0].max())


def test_a_paragraph_wraps() -> None:
    words = "alpha beta gamma delta epsilon " * 4
    narrow, wide = paragraph(words, 120), paragraph(words, 2000)
    assert wide.height == line_height()
    assert narrow.width == 120
    assert narrow.height >= width_of(words) // 120 * line_height()


@pytest.mark.parametrize("text", ["timestep", "x"])
def test_rotated_text_reads_upwards(text: str) -> None:
    upright, turned = line(text), rotated(text)
    assert turned.size == (upright.height, upright.width)
    assert turned.rotate(-90, expand=True).tobytes() == upright.tobytes()
