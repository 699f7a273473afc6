"""Shared by all tests: the environment, and ways to run the command."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.real_digits"]

# Hosted CI sets some of these, and Rich then writes colours into what is no terminal.
for name in ("FORCE_COLOR", "GITHUB_ACTIONS", "PY_COLORS", "TTY_COMPATIBLE", "CLICOLOR_FORCE"):
    os.environ.pop(name, None)
os.environ |= {"NO_COLOR": "1", "COLUMNS": "80", "LINES": "24", "PYTHONUTF8": "1"}
# Read by torch when it is loaded, here and in every process that a test starts.  Networks as
# small as those of the tests gain nothing from a second thread, and on a busy machine, where
# two wait for each other, they lose a hundredfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Likewise.  Without --device, commands use a GPU if there is one: its numbers are others than
# those that the tests compute on the CPU to compare with.  Tests on one name it here themselves.
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

# What a script starts in the background ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure of what is tested; and whether a change is good must not depend
# on which examples were drawn.
settings.register_profile(
    "diffcli", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("diffcli")


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    err: str

    def is_one_line_error(self, code: int, *words: str) -> bool:
        """Whether it failed as it should: that exit code, one line, and all the words in it."""
        return (
            self.code == code
            and self.out == ""
            and self.err.startswith("diffcli: ")
            and self.err.count("\n") == 1
            and "Traceback" not in self.err
            and all(word in self.err for word in words)
        )


Command = Callable[..., Result]

_may_start_processes = True


def _audit(event: str, _arguments: object) -> None:
    if event == "subprocess.Popen" and not _may_start_processes:
        raise AssertionError("a test that starts a process needs the mark 'process'")


sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def _only_marked_tests_start_processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep the quick loop quick: processes take seconds to load torch."""
    global _may_start_processes  # noqa: PLW0603 - audit hooks take no arguments of ours
    _may_start_processes = request.node.get_closest_marker("process") is not None
    yield
    _may_start_processes = True


@pytest.fixture
def diffcli(capfd: pytest.CaptureFixture[str]) -> Command:
    """Run the command line within this process, which spares it the loading of torch."""
    from diffcli.commands.app import app

    def run(*arguments: str | Path) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            app([str(argument) for argument in arguments], prog_name="diffcli")
        assert isinstance(left.value.code, int)
        return Result(left.value.code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def diffcli_process() -> Command:
    """Run the command line as a process of its own."""

    def run(*arguments: str | Path, cwd: Path | None = None) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "diffcli", *map(str, arguments)],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=300,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No way out: every request goes to a port of this machine at which nobody listens."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
