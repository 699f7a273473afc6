"""``python -m diffcli``, and the ``diffcli`` command."""

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command line."""
    # Before all that takes time to import.
    signal.signal(signal.SIGINT, _interrupt)

    from diffcli.commands.app import app

    app(prog_name="diffcli")


def _interrupt(_number: int, frame: FrameType | None) -> None:
    """Raise ``KeyboardInterrupt``; but while something is imported, end the process.

    Modules in C may swallow an exception that is raised within their import, or fail later.
    """
    while frame:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"diffcli: interrupted\n")
            os._exit(128 + signal.SIGINT)
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
