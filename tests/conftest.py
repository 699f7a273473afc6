"""What all tests share: a plain terminal, few threads, and ways to run the command."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

# Hosted CI sets some of these, and Rich then writes colours into what is no terminal.
for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TTY_COMPATIBLE", "CLICOLOR_FORCE"):
    os.environ.pop(name, None)
os.environ |= {"NO_COLOR": "1", "COLUMNS": "80", "LINES": "24", "PYTHONUTF8": "1"}
# Read by torch when it is loaded, here and in every process that a test starts.  Networks as
# small as those of the tests gain nothing from a second thread, and on a busy machine, where
# two wait for each other, they lose a hundredfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")
