import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from diffcli.commands.preview import HalfBlocks
from diffcli.core.parameters import SamplingSettings
from diffcli.core.samplers import Step
from diffcli.core.schedule import NoiseSchedule
from diffcli.files.checkpoint import save_model
from diffcli.sampling.model import Model
from diffcli.sampling.request import SampleRequest
from tests import tiny
from tests.conftest import Command


def printed(picture: Image.Image, **options: Any) -> str:
    defaults: dict[str, Any] = {"width": 40, "height": 20, "no_color": False}
    console = Console(
        file=io.StringIO(),
        force_terminal=True,
        legacy_windows=False,
        **(defaults | options),
    )
    console.print(HalfBlocks(picture))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def column(*colours: tuple[int, int, int]) -> Image.Image:
    made = Image.new("RGB", (1, len(colours)))
    made.putdata(list(colours))
    return made


def test_24_bit_colours() -> None:
    text = printed(column((1, 2, 3), (4, 5, 6), (7, 8, 9)), color_system="truecolor")
    assert text == ("\x1b[38;2;1;2;3;48;2;4;5;6m▀\x1b[0m\n\x1b[38;2;7;8;9m▀\x1b[0m\n")


def test_256_colours() -> None:
    text = printed(column((255, 0, 0), (0, 0, 0)), color_system="256")
    assert re.fullmatch(r"\x1b\[38;5;196;48;5;16m▀\x1b\[0m\n", text)


@pytest.mark.parametrize("options", [{"color_system": None}, {"no_color": True}])
def test_no_colours(options: dict[str, object]) -> None:
    made = Image.new("L", (4, 2))
    made.putdata([0, 255, 0, 255, 0, 0, 255, 255])
    assert printed(made, **options) == " ▀▄█\n"


def test_an_odd_number_of_rows_without_colours() -> None:
    assert printed(Image.new("L", (2, 3), 255), color_system=None) == "██\n▀▀\n"


def test_grey_is_dithered() -> None:
    text = printed(Image.new("L", (16, 16), 128), color_system=None)
    lit = 2 * text.count("█") + text.count("▀") + text.count("▄")
    assert lit == pytest.approx(128, abs=12)


def test_pictures_are_reduced_to_the_terminal_and_never_enlarged() -> None:
    wide = printed(Image.new("L", (400, 40), 255), color_system=None).splitlines()
    assert [len(line) for line in wide] == [40, 40]
    tall = printed(Image.new("L", (40, 400), 255), color_system=None).splitlines()
    assert len(tall) == 19
    small = printed(Image.new("L", (3, 2), 255), color_system=None)
    assert small == "███\n"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    path = tmp_path / "runs" / "a" / "model.safetensors"
    save_model(path, tiny.description(), tiny.network().state_dict())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_line_per_step_where_there_is_no_terminal(diffcli: Command, runs: Path) -> None:
    result = diffcli("watch", "--label", "1", "--seed", "3", "--steps", "4")
    assert result.code == 0
    schedule = NoiseSchedule.from_config(tiny.COSINE)
    expected = []
    for number, (t, s) in enumerate([(19, 14), (14, 9), (9, 4)], start=1):
        signal_s, noise_s = schedule.alpha_sigma(s)
        snr = (signal_s / noise_s) ** 2
        expected.append(f"step {number}/4   t = {t} -> {s}   SNR {snr:.3g}")
    assert result.out.splitlines() == [*expected, "step 4/4   t = 4 -> clean"]
    assert "seed: 3" in result.err
    assert 'o"ne' in result.err


def test_it_draws_as_the_options_say(
    diffcli: Command, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[SampleRequest] = []
    trace = Model.trace

    def record(model: Model, request: SampleRequest) -> Iterator[Step]:
        drawn.append(request)
        return trace(model, request)

    monkeypatch.setattr(Model, "trace", record)
    options = ("--sampler", "ddim", "--guidance", "2.5", "--steps", "3")
    assert diffcli("watch", "--label", "2", "--seed", "9", *options).code == 0
    assert diffcli("watch", "--label", "2", "--seed", "9").code == 0
    settings = SamplingSettings("ddim", 3, 2.5)
    assert drawn[0] == SampleRequest((2,), 1, 9, settings)
    assert drawn[1] == SampleRequest((2,), 1, 9, tiny.description().sampling)


def test_the_seed_picks_a_class(diffcli: Command, runs: Path) -> None:
    assert "class: zwei ü" in diffcli("watch", "--seed", "5", "--steps", "1").err


def test_the_name_of_a_class_does_not_reach_the_terminal(diffcli: Command, runs: Path) -> None:
    path = runs / "odd.safetensors"
    made = replace(tiny.description(), class_names=("a\x1b[2J", "b", "c"))
    save_model(path, made, tiny.network().state_dict())
    result = diffcli("watch", "--model", path, "--seed", "0", "--steps", "1")
    assert result.err == f"model: {path}  class: a\\x1b[2J  seed: 0\n"


def test_the_seed_picks_a_class_by_its_number_whatever_it_is_called(
    diffcli: Command, runs: Path
) -> None:
    path = runs / "digits.safetensors"
    made = replace(tiny.description(), class_names=("1", "2", "3"))
    save_model(path, made, tiny.network().state_dict())
    for seed, name in ((3, "1"), (4, "2"), (5, "3")):
        result = diffcli("watch", "--model", path, "--seed", str(seed), "--steps", "1")
        assert f"class: {name}  seed: {seed}\n" in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--label", "9"], ["'9'", "zero"]),
        (["--label", "0-2"], ["one picture"]),
        (["--steps", "21"], ["1 .. 20"]),
        (["--steps", "0"], ["steps", "0"]),
        (["--model", "none"], ["none"]),
        (["--fps", "0"], ["--fps"]),
        (["--fps", "nan"], ["--fps"]),
    ],
)
def test_wrong_usage(diffcli: Command, runs: Path, arguments: list[str], words: list[str]) -> None:
    assert diffcli("watch", *arguments).is_one_line_error(2, *words)


@contextlib.contextmanager
def terminal(runs: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The real command on a pseudo-terminal, and the other end of it."""
    import pty

    controller, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "diffcli", "watch", "--seed", "1", *arguments],
        cwd=runs,
        stdin=end,
        stdout=end,
        stderr=subprocess.PIPE,
        env=os.environ | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"},
    ) as process:
        os.close(end)
        try:
            yield process, controller
        finally:
            os.close(controller)
            process.kill()


def read(controller: int, until: bytes = b"\0") -> bytes:
    shown, deadline = b"", time.monotonic() + 120
    while until not in shown and time.monotonic() < deadline:
        try:
            shown += os.read(controller, 65536)
        except OSError:  # Linux tells so that the other side has gone
            break
    return shown


NO_PTY = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")


@pytest.mark.process
@NO_PTY
def test_it_draws_in_place(runs: Path) -> None:
    with terminal(runs, "--fps", "120") as (process, controller):
        shown = read(controller)
        assert process.wait(60) == 0
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") == 1
    assert all(f"step {number}/4".encode() in shown for number in range(1, 5))
    # From the second frame on, back up over the seven lines of the one before.
    assert shown.count(b"\x1b[1A") >= 3 * 6
    assert shown.rstrip().endswith(b"\x1b[?25h")


@pytest.mark.process
@NO_PTY
def test_ctrl_c_restores_the_cursor(runs: Path) -> None:
    with terminal(runs, "--fps", "0.1") as (process, controller):
        shown = read(controller, until=b"step 1/4")
        process.send_signal(signal.SIGINT)
        shown += read(controller)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert shown.count(b"\x1b[?25l") == shown.count(b"\x1b[?25h") == 1
    assert b"step 2/4" not in shown
