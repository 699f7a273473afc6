"""What ``--label`` may say."""

import re
from collections.abc import Sequence

from diffcli.errors import UsageError


def parse_labels(wanted: Sequence[str], class_names: Sequence[str]) -> list[int]:
    """Class numbers for ``3``, ``0-4``, ``0-4,7``, ``cat`` or ``all``, in the order asked for.

    A class goes by its name; where no class has that name, by its number.

    Raises:
        UsageError: for a class that the model does not have; it lists those it has.
    """
    labels = []
    for item in [part.strip() for text in wanted for part in text.split(",")]:
        bounds = re.fullmatch(r"(\d{1,9})-(\d{1,9})", item)
        if item in class_names:
            labels.append(class_names.index(item))
        elif item == "all":
            labels.extend(range(len(class_names)))
        elif bounds and int(bounds[1]) <= int(bounds[2]) < len(class_names):
            labels.extend(range(int(bounds[1]), int(bounds[2]) + 1))
        elif item.isascii() and item.isdigit() and len(item) < 10 and int(item) < len(class_names):
            labels.append(int(item))
        else:
            raise UsageError(
                f"--label {item!r} is none of the model's classes: {_shortened(class_names)}"
            )
    return labels


def _shortened(names: Sequence[str], most: int = 20) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
