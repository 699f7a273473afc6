"""File names: free ones, patterns, and names made of class names.

This module does not import torch.
"""

import re
import string
from collections.abc import Iterable
from pathlib import Path

from diffcli.errors import UsageError

_PATTERN_FIELDS = ("label", "seed", "index")
_LONGEST_NAME = 60
# Devices of Windows, whatever follows after a dot.
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def is_device(name: str) -> bool:
    """Whether a file of that name would be a device on Windows."""
    return _RESERVED.fullmatch(name) is not None


def unused_path(path: Path) -> Path:
    """``path`` if it is free, else the first free one of ``name-1``, ``name-2``, ...

    An empty folder counts as free.
    """
    candidate, number = path, 0
    while candidate.exists() and not (candidate.is_dir() and not any(candidate.iterdir())):
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def pattern_fields(pattern: str) -> set[str]:
    """The fields in a pattern of file names: some of label, seed and index.

    Raises:
        UsageError: if it is malformed, or has other fields.
    """
    try:
        fields = [field for _, field, *_ in string.Formatter().parse(pattern) if field is not None]
        if unknown := [field for field in fields if field not in _PATTERN_FIELDS]:
            raise UsageError(
                f"the file name {pattern!r} has a field {{{unknown[0]}}}; allowed are "
                f"{', '.join(f'{{{name}}}' for name in _PATTERN_FIELDS)}"
            )
        pattern.format(label="", seed=0, index=0)
    except ValueError as error:
        raise UsageError(f"{pattern!r} is no pattern of file names: {error}") from error
    return set(fields)


def file_names(class_names: Iterable[str]) -> list[str]:
    """A file name for each class, valid on all file systems.

    They differ from each other, also if case is ignored.
    """
    names: list[str] = []
    taken: set[str] = set()
    for class_name in class_names:
        name = re.sub(r"[^\w\-+ .]", "_", class_name)[:_LONGEST_NAME].strip(" .") or "_"
        if is_device(name):
            name = f"_{name}"
        unique, number = name, 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique.casefold())
        names.append(unique)
    return names
