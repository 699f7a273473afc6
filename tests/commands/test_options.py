"""What single options may say."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcli.commands.devices import find_device
from diffcli.commands.durations import parse_duration
from diffcli.commands.sizes import parse_size
from diffcli.commands.timesteps import parse_timesteps
from diffcli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (" 0.5s ", 0.5), ("65m", 3900)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "0.0h", "-5", "5d", "m", "1h30m", "1e3", "nan", "inf", "five", "1 h"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match=r"write it like 90s, 10m or 1\.5h"):
        parse_duration(text)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_wrong_usage(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except UsageError:
        return
    assert 0 < seconds < math.inf


@pytest.mark.parametrize(
    ("text", "size"), [("32", (32, 32)), ("48x32", (32, 48)), ("1x9999", (9999, 1))]
)
def test_sizes(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "32x", "x32", "032", "3.5", "-32", "10000", "32*32"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="write it like 32 or 48x32"):
        parse_size(text)


@pytest.mark.parametrize(
    ("wanted", "timesteps"),
    [(["150"], [150]), (["0,50,299"], [0, 50, 299]), (["7", "3, 7", "1"], [7, 3, 1])],
)
def test_timesteps(wanted: list[str], timesteps: list[int]) -> None:
    assert parse_timesteps(wanted, 300) == timesteps


@pytest.mark.parametrize("text", ["300", "-1", "", "1,", "1.5", "x", "٣", "9" * 50])
def test_no_timesteps(text: str) -> None:
    with pytest.raises(UsageError, match="--t "):
        parse_timesteps([text], 300)


def test_devices_that_are_here() -> None:
    assert find_device("cpu") == torch.device("cpu")
    assert find_device("auto").type in ("cpu", "cuda", "mps")


@pytest.mark.parametrize("name", ["cuda:99", "tpu", "", "CPU", "cuda:", "meta"])
def test_devices_that_are_not_here(name: str) -> None:
    with pytest.raises(UsageError, match=r"is not here; this computer has: .*cpu.* \(or auto\)"):
        find_device(name)
