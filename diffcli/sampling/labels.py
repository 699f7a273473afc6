"""Labels as people write them: names, numbers, ranges and mixtures."""

import operator
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple, SupportsIndex

from diffcli.errors import UsageError

Wanted = str | SupportsIndex | Iterable[str | SupportsIndex]
"""Labels as people write them, one or several."""


class Labels(NamedTuple):
    """Class numbers, each drawn on its own, or all mixed with weights."""

    numbers: tuple[int, ...]
    weights: tuple[float, ...] | None = None


def parse_labels(wanted: Wanted, class_names: Sequence[str]) -> Labels:
    """Class numbers for ``3``, ``0-4``, ``0-4,7``, ``cat`` or ``all``, in the given order.

    A text is a class name first; if no class has that name, it is a number; so is each number of
    a range.  An integer, also one of numpy or torch, is always a number.  Labels with weights,
    ``3:0.7,8:0.3``, or with a minus sign for a weight of -1, ``3,-8``, are a mixture.

    Raises:
        UsageError: if the model has no such class, and the message lists those it has; or if
            there are other labels besides a mixture.
    """
    items = _items(wanted)
    if any(isinstance(item, str) and _is_mixture(item, class_names) for item in items):
        if len(items) > 1:
            raise UsageError(
                "labels with weights are one mixture; draw other labels in a command of their own"
            )
        parts = [_parse_weighted(part.strip(), class_names) for part in str(items[0]).split(",")]
        numbers, weights = zip(*parts, strict=True)
        return Labels(numbers, weights)
    labels: list[int] = []
    for item in items:
        if not isinstance(item, str):
            labels += _parse_number(item, class_names)
        elif item in class_names:
            labels += _parse(item, class_names)
        else:
            for part in item.split(","):
                labels += _parse(part.strip(), class_names)
    return Labels(tuple(labels))


def label_text(names: Sequence[str], weights: Sequence[float] | None) -> str:
    """Labels for a person to read."""
    clean = [" ".join(name.split()) for name in names]
    if weights is not None:
        clean = [f"{name}:{weight:g}" for name, weight in zip(clean, weights, strict=True)]
    return ", ".join(clean)


def _items(wanted: Wanted) -> Sequence[str | SupportsIndex]:
    if isinstance(wanted, str) or not isinstance(wanted, Iterable):
        return [wanted]
    if isinstance(wanted, SupportsIndex):
        # Integers of numpy and torch are arrays without dimensions, which cannot be iterated.
        with suppress(TypeError):
            return [operator.index(wanted)]
    return list(wanted)


def _is_mixture(item: str, class_names: Sequence[str]) -> bool:
    return item not in class_names and any(
        part not in class_names and re.match(r"-|.*:", part)
        for part in map(str.strip, item.split(","))
    )


def _parse_weighted(part: str, class_names: Sequence[str]) -> tuple[int, float]:
    name, weight = part, 1.0
    if name not in class_names and name.startswith("-"):
        name, weight = name[1:], -1.0
    if name not in class_names and ":" in name:
        name, _, number = name.rpartition(":")
        if not re.fullmatch(r"-?[0-9]{1,4}(\.[0-9]{1,9})?", number):
            raise UsageError(f"{part!r} is no label with a weight; write it like 3:0.7")
        weight *= float(number)
    found = _parse(name, class_names)
    if len(found) > 1:
        raise UsageError(f"{part!r} is more than one class; in a mixture, give each its weight")
    return found[0], weight


def _parse_number(item: SupportsIndex, class_names: Sequence[str]) -> Sequence[int]:
    try:
        number = operator.index(item)
    except TypeError:
        number = -1
    if isinstance(item, bool) or not 0 <= number < len(class_names):
        raise _unknown(item, class_names)
    return [number]


def _parse(item: str, class_names: Sequence[str]) -> Sequence[int]:
    count = len(class_names)
    if item in class_names:
        return [class_names.index(item)]
    if item == "all":
        return range(count)
    if match := re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", item):
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(f"the range {item} runs backwards; write {last}-{first}")
        if last - first < count:
            # As long as the first one is written: 01-12 are classes of such names.
            texts = [f"{number:0{len(match[1])}}" for number in range(first, last + 1)]
            named = {name: number for number, name in enumerate(class_names)}
            numbers = [named.get(text, int(text)) for text in texts]
            if max(numbers) < count:
                return numbers
    raise _unknown(item, class_names)


def _unknown(item: object, class_names: Sequence[str]) -> UsageError:
    return UsageError(f"{item!r} is no class of the model, which has {_shortened(class_names)}")


def _shortened(names: Sequence[str], most: int = 20) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
