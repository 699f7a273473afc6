"""What ``--max-time`` may say."""

import re

from diffcli.errors import UsageError

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


def parse_duration(text: str) -> float:
    """Seconds in ``90``, ``90s``, ``10m`` or ``1.5h``.

    Raises:
        UsageError: for anything else, and for zero.
    """
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh]?)", text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise UsageError(f"--max-time {text!r} is no time; write it like 90s, 10m or 1.5h")
    return seconds
