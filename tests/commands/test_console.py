"""What commands print of themselves."""

import shlex
from pathlib import Path

import pytest

from diffcli.commands.console import typed


@pytest.mark.parametrize("name", ["runs/quick", "runs/two words", " a  b "])
def test_an_argument_can_be_pasted(name: str) -> None:
    assert shlex.split(f"diffcli tune {typed(name)}") == ["diffcli", "tune", name]
    assert typed(Path(name)) == typed(str(Path(name)))
