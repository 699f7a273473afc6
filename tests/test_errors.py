"""Messages: what strangers wrote and they quote, a lack of memory, and huge weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diffcli.commands.app import app
from diffcli.errors import DiffcliError, UsageError
from diffcli.files.checkpoint import save_model
from diffcli.files.pictures import save_png
from diffcli.sampling.model import Model
from tests import tiny
from tests.conftest import Command


@given(st.text())
def test_a_message_is_one_line_that_no_terminal_obeys(text: str) -> None:
    message = str(UsageError(f"cannot read {text}; use another one", "data"))
    assert message.isprintable()
    assert message.startswith("cannot read ")
    assert message.endswith("; use another one")
    assert len(message) < 1300
    # Written to a terminal of any encoding, it is no error.
    message.encode("ascii", "backslashreplace")


def test_usual_messages_are_left_alone() -> None:
    text = "the model has the classes zero, zwei ü, 三; ᾱ is 0.5 ('a')"
    assert str(DiffcliError(text)) == text


def test_of_a_long_message_beginning_and_end_are_kept() -> None:
    message = str(DiffcliError("begin " + "x" * 10**6 + " end"))
    assert message.startswith("begin xxx")
    assert message.endswith("xxx end")
    assert len(message) < 1300


def test_escapes_are_visible() -> None:
    assert str(DiffcliError("a\nb\x1b[31m\u202e")) == r"a\nb\x1b[31m\u202e"


def test_the_system_and_the_options_may_quote_anything_too(
    diffcli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "a\x1b[2J  b\n")

    monkeypatch.setattr(Model, "load", fail)
    failed = diffcli("sample", "--model", "mnist")
    assert (failed.code, failed.err) == (1, "diffcli: Permission denied: a\\x1b[2J  b\\n\n")
    wrong = diffcli("sample", "--steps", "a\x1b[2J")
    assert wrong.is_one_line_error(2, "a\\x1b[2J")


def on_a_gpu() -> None:
    raise torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8.00 GiB"
    )


@pytest.mark.parametrize(
    "fail",
    [on_a_gpu, lambda: torch.empty(2**50), lambda: bytearray(2**60)],
    ids=["on a GPU", "in torch", "in Python"],
)
def test_a_lack_of_memory_is_one_line_with_advice(
    fail: Callable[[], object], diffcli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffcli.commands.train.carry_out", lambda *_: fail())
    monkeypatch.setattr(Model, "load", lambda *_: fail())
    assert diffcli("train").is_one_line_error(1, "not enough memory", "--batch-size", "--width")
    sampled = diffcli("sample", "--model", "mnist")
    assert sampled.is_one_line_error(1, "not enough memory", "fewer or smaller pictures")
    assert "--batch-size" not in sampled.err


@pytest.mark.parametrize(
    "command",
    [
        ["sample", "-n", "1"],
        ["sample", "-n", "1", "--strip"],
        ["score", "a.png"],
        ["noise-demo", "a.png"],
        ["noise-demo", "a.png", "--json"],
        ["inspect-embedding", "--json"],
    ],
    ids=" ".join,
)
def test_huge_weights_are_one_line(
    diffcli: Command, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = tiny.network().state_dict()
    for name in ("time_embedding.3.weight", "label_embedding.weight"):
        weights[name].fill_(3e38)
    save_model(Path("huge.safetensors"), tiny.description(), weights)
    save_png(Path("a.png"), Image.linear_gradient("L").resize((8, 8)))
    result = diffcli(*command, "--quiet", "-m", "huge.safetensors")
    assert result.is_one_line_error(1, "the network's output is not finite", "--model")
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "huge.safetensors"]


def test_other_errors_of_torch_are_no_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "load", lambda *_: torch.empty(2).view(3))
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        app(["sample", "--model", "mnist"], prog_name="diffcli")
