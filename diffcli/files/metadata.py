"""The JSON document inside a checkpoint: reading it distrusts every byte.

Nothing here needs torch, so that a command can look into a file at once.
"""

import json
import os
import reprlib
import sys
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import (
    Any,
    ClassVar,
    NamedTuple,
    Protocol,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from diffcli.errors import DiffcliError

METADATA_KEY = "diffcli"
FORMAT_VERSION = 1
_MAX_HEADER = 4 << 20
_MAX_DEPTH = 32


class _Dataclass(Protocol):
    """What all dataclasses have in common."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


T = TypeVar("T", bound=_Dataclass)


class FileKind(NamedTuple):
    """What a file should be, for the errors about one that is not."""

    name: str
    remedy: str


MODEL = FileKind("diffcli model", "name another with --model")


def read_header(path: Path, kind: FileKind = MODEL) -> dict[str, Any]:
    """The header of a safetensors file: name -> dtype, shape and offsets, and the metadata.

    Raises:
        DiffcliError: if the file is missing, truncated or of another kind.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= _MAX_HEADER:
                raise unusable(path, "it is no safetensors file", kind)
            content = file.read(size)
            bytes_after = file.seek(0, os.SEEK_END) - 8 - size
    except OSError as error:
        raise DiffcliError(
            f"cannot read the {kind.name} {path}: {error.strerror}; {kind.remedy}"
        ) from error
    if len(content) < size:
        raise unusable(path, "it ends within its header, so it is truncated", kind)
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise unusable(path, "it is no safetensors file", kind) from error
    if not isinstance(header, dict):
        raise unusable(path, "it is no safetensors file", kind)
    if bytes_after < max(map(_end_of_tensor, header.values()), default=0):
        raise unusable(path, "it ends within its weights, so it is truncated", kind)
    return header


def _end_of_tensor(entry: Any) -> int:
    """Where a tensor ends after the header; 0 if the entry does not say so."""
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    return offsets[1] if isinstance(offsets, list) and [*map(type, offsets)] == [int, int] else 0


def read_metadata(path: Path, kind: FileKind = MODEL) -> dict[str, Any]:
    """The JSON document that ``diffcli`` keeps in a checkpoint.

    Raises:
        DiffcliError: if the file is no checkpoint of a version that this release knows.
    """
    metadata = read_header(path, kind).get("__metadata__")
    text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise unusable(path, "diffcli did not write it", kind)
    try:
        document = parse_document(text)
    except ValueError as error:
        raise unusable(path, str(error), kind) from error
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        found = reprlib.repr(version)
        raise unusable(
            path, f"its format version is {found} and this release reads {FORMAT_VERSION}", kind
        )
    return document


def unusable(path: Path, why: str, kind: FileKind) -> DiffcliError:
    """The one-line error for a file that is not what it should be."""
    return DiffcliError(f"{path} is not a usable {kind.name}: {why}; {kind.remedy}")


def not_a_model(path: Path, why: str) -> DiffcliError:
    """The one-line error for a file that cannot be used as a model."""
    return unusable(path, why, MODEL)


def parse_document(text: str | bytes) -> dict[str, Any]:
    """A JSON object out of a file.

    Raises:
        ValueError: if it is none.
    """
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError("its metadata is no JSON") from error
    if not isinstance(document, dict):
        raise ValueError("its metadata is no JSON object")
    _check_depth(document, _MAX_DEPTH)
    return document


def _check_depth(value: Any, left: int) -> None:
    if left == 0:
        raise ValueError("its metadata is nested too deeply")
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, dict | list):
            _check_depth(item, left - 1)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


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
        elif field.default is MISSING:
            raise ValueError(f"{cls.__name__}.{name} is missing")
    return cls(**values)


def _decode_value(name: str, hint: Any, value: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and is_dataclass(hint):
        return decode(hint, value)
    if origin is tuple and isinstance(value, list):
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
