"""File names: patterns, and names made of class names.

This module does not import torch.
"""

import re
import string
from collections.abc import Sequence

from diffcli.errors import UsageError

_PATTERN_FIELDS = ("label", "seed", "index")
_LONGEST_NAME = 60
# Devices of Windows, whatever follows after a dot.
_DEVICE = re.compile(
    r"(con|conin\$|conout\$|prn|aux|nul|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE
)


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8, as all files of this program are.

    Names of files that are not UTF-8 themselves come with lone surrogates, which cannot.
    """
    return re.search(r"[\ud800-\udfff]", text) is None


def is_kept_by_windows(name: str) -> bool:
    """Whether a file gets that name on Windows, too.

    There, some names are those of devices, and dots and spaces at the end are dropped.
    """
    return not _DEVICE.fullmatch(name) and not name.endswith((".", " "))


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


def file_names(class_names: Sequence[str]) -> list[str]:
    """A file name for each class, valid on all file systems.

    They differ from each other, also if case is ignored.  A class name that is valid already is
    the file name of no other class.
    """
    names = [_file_name(name) for name in class_names]
    kept: dict[str, int] = {}
    for index, name in enumerate(class_names):
        if name == names[index]:
            kept.setdefault(name.casefold(), index)
    taken = set(kept)
    numbers: dict[str, int] = {}
    for index, name in enumerate(names):
        same = name.casefold()
        if kept.get(same) == index:
            continue
        while names[index].casefold() in taken:
            numbers[same] = numbers.get(same, 1) + 1
            names[index] = f"{name}_{numbers[same]}"
        taken.add(names[index].casefold())
    return names


def _file_name(class_name: str) -> str:
    name = re.sub(r"[^\w\-+ .]", "_", class_name)[:_LONGEST_NAME].strip(" .") or "_"
    return name if is_kept_by_windows(name) else f"_{name}"


def class_numbers(class_names: Sequence[str]) -> dict[str, int]:
    """The number of each class by its name, and by the one that ``file_names`` gives it."""
    numbers = {name: number for number, name in enumerate(file_names(class_names))}
    for number, name in enumerate(class_names):
        numbers.setdefault(name, number)
    return numbers
