"""Names for files: free ones, those of a pattern, and those of classes."""

import re
import string
from collections.abc import Iterable
from pathlib import Path

from diffcli.errors import UsageError

_FIELDS = ("label", "seed", "index")
_LONGEST_NAME = 60


def unused_path(path: Path) -> Path:
    """``path``, or if there is something already, the first free of ``name-1``, ``name-2``...

    An empty folder counts as free.
    """
    candidate, number = path, 0
    while candidate.exists() and not (candidate.is_dir() and not any(candidate.iterdir())):
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def check_pattern(pattern: str) -> None:
    """Refuse a pattern of file names that cannot name every picture apart.

    Raises:
        UsageError: if it is malformed, has unknown fields, or neither seed nor index.
    """
    try:
        fields = [field for _, field, *_ in string.Formatter().parse(pattern) if field is not None]
        if unknown := [field for field in fields if field not in _FIELDS]:
            raise UsageError(
                f"-o {pattern!r} has a field {{{unknown[0]}}}; there are "
                f"{', '.join(f'{{{name}}}' for name in _FIELDS)}"
            )
        pattern.format(label="", seed=0, index=0)
    except ValueError as error:
        raise UsageError(f"-o {pattern!r} is no pattern of file names: {error}") from error
    if not {"seed", "index"} & set(fields):
        raise UsageError(f"-o {pattern!r} gives pictures the same name; add {{seed}}")


def file_names(class_names: Iterable[str]) -> list[str]:
    """A name for each class that no file system, and no path, takes for something else.

    They differ from one another, also where case is not told apart.
    """
    names: list[str] = []
    taken: set[str] = set()
    for class_name in class_names:
        name = re.sub(r"[^\w\-+ .]", "_", class_name)[:_LONGEST_NAME].strip(" .") or "_"
        unique, number = name, 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique.casefold())
        names.append(unique)
    return names
