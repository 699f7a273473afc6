"""Help and version: at once, on one screen, and without loading what they do not need."""

import os
import re
import subprocess
import sys

import pytest
import typer
from typer.core import TyperGroup

from diffcli import __version__
from diffcli.commands.app import app
from tests.conftest import Command

GROUP = typer.main.get_command(app)
assert isinstance(GROUP, TyperGroup)
COMMANDS = dict(sorted(GROUP.commands.items()))
HEAVY = {"torch", "torchvision", "numpy", "PIL", "safetensors"}
SCREEN_COLUMNS, SCREEN_LINES = 100, 50

LOADED_AFTER = """
import sys
from diffcli.__main__ import main

try:
    main()
except SystemExit as left:
    assert left.code == 0, left.code
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def modules_after(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", LOADED_AFTER, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stdout
    loaded = done.stderr.split()
    assert loaded[0] == "loaded:"
    return set(loaded[1:])


def test_the_promised_commands_are_there() -> None:
    assert {"train", "sample", "noise-demo", "inspect-embedding"} <= set(COMMANDS)


@pytest.mark.process
@pytest.mark.parametrize("command", COMMANDS)
def test_help_loads_nothing_heavy(command: str) -> None:
    assert modules_after(command, "--help") & HEAVY == set()


@pytest.mark.process
@pytest.mark.parametrize("option", ["--help", "-h", "--version"])
def test_neither_does_the_rest(option: str) -> None:
    assert modules_after(option) & HEAVY == set()


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_on_one_screen(
    diffcli: Command, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(SCREEN_COLUMNS))
    result = diffcli(*filter(None, [command]), "--help")
    lines = result.out.splitlines()
    assert (result.code, result.err) == (0, "")
    assert len(lines) <= SCREEN_LINES
    assert max(map(len, lines)) <= SCREEN_COLUMNS
    assert "\x1b" not in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(diffcli: Command, command: str) -> None:
    parameters = COMMANDS[command].params
    assert [param.name for param in parameters if not getattr(param, "help", "")] == []
    shown = diffcli(command, "--help").out
    options = [name for param in parameters for name in param.opts if name.startswith("--")]
    assert [name for name in options if name not in shown] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_kinds_of_values_and_the_usual_model_are_called_alike(
    diffcli: Command, command: str
) -> None:
    shown = " ".join(diffcli(command, "--help").out.replace("│", " ").split())
    assert "range>" not in shown
    assert "digits" not in shown
    names_a_model = re.search(r"--model|Model to (tune|distill)", shown)
    needs_none = command in ("inspect-embedding", "train", "info")  # none, or not by default
    assert ("newest run, else mnist" in shown) == (bool(names_a_model) and not needs_none)


def test_the_seed_of_evaluate_also_chooses_real_images(diffcli: Command) -> None:
    shown = " ".join(diffcli("evaluate", "--help").out.replace("│", " ").split())
    assert "Seed of the first picture, and of the choice of real ones." in shown


def test_the_help_of_the_whole_lists_all_commands(diffcli: Command) -> None:
    shown = diffcli("--help").out
    assert all(f" {command} " in shown for command in COMMANDS)


def test_version(diffcli: Command) -> None:
    result = diffcli("--version")
    assert (result.code, result.out, result.err) == (0, f"diffcli {__version__}\n", "")


def test_without_a_command_the_help_is_printed_and_nothing_else(diffcli: Command) -> None:
    assert diffcli() == diffcli("--help")
    assert diffcli().err == ""


@pytest.mark.process
@pytest.mark.parametrize(
    ("shell", "offered"),
    # What stands for a command that is offered; with zsh and fish, its help comes after it.
    [("bash", r"^(\S+)$"), ("zsh", r'"([a-z-]+)":"'), ("fish", r"^(\S+)\t")],
    ids=["bash", "zsh", "fish"],
)
@pytest.mark.parametrize("typed", ["", "t", "tr", "x"])
def test_the_shell_can_complete_commands(shell: str, offered: str, typed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "diffcli"],
        env=os.environ
        | {
            "_DIFFCLI_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": f"diffcli {typed}",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "COMP_WORDS": f"diffcli {typed}",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    found = re.findall(offered, done.stdout, re.MULTILINE)
    assert sorted(found) == [command for command in COMMANDS if command.startswith(typed)]
    assert done.stderr == ""
