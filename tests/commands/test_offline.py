"""Nothing asks for a network unless a data set that needs it was asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.pictures import tiny_digits, write_folder

pytestmark = pytest.mark.process

# Every socket of Python passes the audit hook, whichever library opens it.
SCRIPT = """
import json, sys

asked = []

def audit(event, arguments):
    if event.startswith("socket.") and event != "socket.__new__":
        asked.append([event, repr(arguments)])
        raise OSError("there is no network")

sys.addaudithook(audit)

from diffcli.commands.app import app

results = []
for arguments in json.load(sys.stdin):
    try:
        app(arguments, prog_name="diffcli")
    except SystemExit as left:
        results.append([left.code, list(asked)])
        asked.clear()
with open("results.json", "w") as file:
    json.dump(results, file)
"""


def run(folder: Path, *commands: list[str]) -> list[tuple[int, list[str]]]:
    """The exit code of each command, and what it asked of a network."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=folder,
        input=json.dumps(commands),
        env={**os.environ, "DIFFCLI_DATA_DIR": str(folder / "cache")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(code, asked) for code, asked in json.loads((folder / "results.json").read_text())]


def test_no_command_needs_a_network(tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures", tiny_digits(20))
    short = ["--max-steps", "2", "--batch-size", "4"]
    commands = [
        ["train", "--data", "pictures", "--name", "a", *short],
        ["train", "--resume", "a", "--max-steps", "3"],
        ["train", "--max-steps", "1", "--width", "16", "--name", "b"],
        ["train", "--from", "b", "--data", "pictures", "--name", "c", *short],
        ["distill", "a", "--name", "d", "--max-steps", "2"],
        ["sample", "-m", "a", "--out-dir", "drawn"],
        ["sample", "-m", "mnist", "-l", "3", "-n", "1", "-o", "three.png"],
        ["sample", "--from", "three.png", "-o", "again.png"],
        ["watch", "-m", "a"],
        ["info", "three.png"],
        ["score", "-m", "a", "drawn"],
        ["evaluate", "-m", "mnist", "-n", "100", "-o", "report.png"],
        ["page", "-m", "a"],
        ["noise-demo", "three.png"],
        ["inspect-embedding", "-m", "a"],
    ]
    for command, (code, asked) in zip(commands, run(tmp_path, *commands), strict=True):
        assert (code, asked) == (0, []), command


def test_what_needs_one_asks_and_fails_in_one_line(tmp_path: Path) -> None:
    """So that the test above would see it."""
    ((code, asked),) = run(tmp_path, ["train", "--data", "fashion-mnist", "--dry-run"])
    assert code == 1
    assert asked
