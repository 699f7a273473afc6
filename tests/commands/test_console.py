"""What commands print of themselves."""

import subprocess
import sys

import pytest

from diffcli.commands.console import say, typed


def test_messages_are_lines_that_no_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    say("model: a\x1b[2J\nb\u202e.safetensors ü 三")
    assert capsys.readouterr().err == "model: a\\x1b[2J\\nb\\u202e.safetensors ü 三\n"


@pytest.mark.process
@pytest.mark.parametrize("name", ["quick", "two words", "it's", "$HOME"])
def test_an_argument_can_be_pasted_into_a_shell(name: str) -> None:
    program = "import sys; print(sys.argv[1:])"
    command = f"{typed(sys.executable)} -c {typed(program)} {typed(name)}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == repr([name])
