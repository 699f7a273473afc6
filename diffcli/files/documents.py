"""JSON documents from files, which are data from strangers: checked before anything is used.

This module does not import torch.
"""

import json
import reprlib
import sys
from dataclasses import MISSING, Field, fields, is_dataclass
from types import UnionType
from typing import Any, ClassVar, Protocol, TypeVar, get_args, get_origin, get_type_hints

_MAX_DEPTH = 32


class _Dataclass(Protocol):
    """What all dataclasses have in common."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar("T", bound=_Dataclass)


def parse_document(text: str | bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: if the text is no JSON object, is nested deeply, or holds what could not be
            written again: NaN, infinity, or text that is not valid Unicode.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("its metadata is no JSON") from error
    if not isinstance(document, dict):
        raise ValueError("its metadata is no JSON object")
    _check_depth(document, _MAX_DEPTH)
    try:
        # Infinity can come as 1e999, and half a character as "\ud800".
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise ValueError("its metadata is no JSON: a number or a text is not valid") from error
    return document


def _check_depth(value: Any, left: int) -> None:
    if left == 0:
        raise ValueError("its metadata is nested too deeply")
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            _check_depth(item, left - 1)


def decode(cls: type[T], document: Any) -> T:
    """Build a dataclass from a JSON object that has its fields, no others, of its types.

    Raises:
        ValueError: if a field is missing, unknown, of another type, or refused by the class.
    """
    if not isinstance(document, dict):
        raise ValueError(f"{cls.__name__} is no JSON object")
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls)}
    if unknown := sorted(set(document) - set(known)):
        raise ValueError(f"{cls.__name__} has an unknown field {reprlib.repr(unknown[0])}")
    values = {}
    for name, field in known.items():
        if name in document:
            values[name] = _decode_value(f"{cls.__name__}.{name}", hints[name], document[name])
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{cls.__name__}.{name} is missing")
    return cls(**values)


def _decode_value(name: str, hint: Any, value: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return decode(hint, value)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_decode_value(name, arguments[0], item) for item in value)
    if origin is UnionType:
        return None if value is None else _decode_value(name, arguments[0], value)
    if hint is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if (
        (hint in (int, bool, str) and type(value) is hint)
        or (origin is dict and isinstance(value, dict))
        or (value in arguments and isinstance(value, str))  # Literal
    ):
        return value
    raise ValueError(f"{name} cannot be {reprlib.repr(value)}")
