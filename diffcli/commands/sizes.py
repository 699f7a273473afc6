"""What ``--image-size`` may say."""

import re

from diffcli.errors import UsageError


def parse_size(text: str) -> tuple[int, int]:
    """``(height, width)`` in ``32`` or ``48x32``, which is width x height.

    Raises:
        UsageError: for anything else.
    """
    match = re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text.strip())
    if not match:
        raise UsageError(
            f"--image-size {text!r} is no size; write it like 32 or 48x32, of 1 to 9999 pixels"
        )
    return int(match[2] or match[1]), int(match[1])
