"""Labels as people write them: names, numbers and ranges."""

import re
from collections.abc import Sequence

from diffcli.errors import UsageError


def parse_labels(wanted: Sequence[str | int], class_names: Sequence[str]) -> list[int]:
    """Class numbers for ``3``, ``0-4``, ``0-4,7``, ``cat`` or ``all``, in the given order.

    A text is a class name first; if no class has that name, it is a number.  An integer is
    always a number.

    Raises:
        UsageError: if the model has no such class; the message lists those it has.
    """
    labels: list[int] = []
    for item in wanted:
        if isinstance(item, int) or item in class_names:
            labels += _parse(item, class_names)
        else:
            for part in item.split(","):
                labels += _parse(part.strip(), class_names)
    return labels


def _parse(item: str | int, class_names: Sequence[str]) -> Sequence[int]:
    count = len(class_names)
    if isinstance(item, int):
        if 0 <= item < count:
            return [item]
    elif item in class_names:
        return [class_names.index(item)]
    elif item == "all":
        return range(count)
    elif match := re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", item):
        first, last = int(match[1]), int(match[2] or match[1])
        if first <= last < count:
            return range(first, last + 1)
    raise UsageError(f"{item!r} is no class of the model, which has {_shortened(class_names)}")


def _shortened(names: Sequence[str], most: int = 20) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
