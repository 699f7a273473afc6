"""The JSON document inside a checkpoint: reading it distrusts every byte.

Nothing here needs torch, so that a command can look into a file at once.
"""

import json
import math
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from diffcli.errors import DiffcliError

METADATA_KEY = "diffcli"
FORMAT_VERSION = 1
_MAX_HEADER = 4 << 20

T = TypeVar("T")


def read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: name -> dtype, shape and offsets, and the metadata.

    Raises:
        DiffcliError: if the file is missing, truncated or of another kind.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= _MAX_HEADER:
                raise not_a_model(path, "it is no safetensors file")
            content = file.read(size)
    except OSError as error:
        raise DiffcliError(
            f"cannot read the model {path}: {error.strerror}; name another with --model"
        ) from error
    if len(content) < size:
        raise not_a_model(path, "it ends within its header, so it is truncated")
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise not_a_model(path, "it is no safetensors file") from error
    if not isinstance(header, dict):
        raise not_a_model(path, "it is no safetensors file")
    return header


def read_metadata(path: Path) -> dict[str, Any]:
    """The JSON document that ``diffcli`` keeps in a checkpoint.

    Raises:
        DiffcliError: if the file is no checkpoint of a version that this release knows.
    """
    metadata = read_header(path).get("__metadata__")
    text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise not_a_model(path, "diffcli did not write it")
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise not_a_model(path, "its metadata is no JSON") from error
    if not isinstance(document, dict):
        raise not_a_model(path, "its metadata is no JSON object")
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise not_a_model(
            path, f"its format version is {version!r} and this release reads {FORMAT_VERSION}"
        )
    return document


def not_a_model(path: Path, why: str) -> DiffcliError:
    """The one-line error for a file that cannot be used as a model."""
    return DiffcliError(f"{path} is not a usable diffcli model: {why}; name another with --model")


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
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(document) - set(known)):
        raise ValueError(f"{cls.__name__} has an unknown field {unknown[0]!r}")
    values = {}
    for name, field in known.items():
        if name in document:
            values[name] = _decode_value(f"{cls.__name__}.{name}", hints[name], document[name])
        elif field.default is MISSING:
            raise ValueError(f"{cls.__name__}.{name} is missing")
    return cls(**values)


def _decode_value(name: str, hint: Any, value: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is tuple and isinstance(value, list):
        return tuple(_decode_value(name, arguments[0], item) for item in value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
    elif hint in (int, bool, str):
        if type(value) is hint:
            return value
    elif origin is dict:
        if isinstance(value, dict):
            return value
    elif origin is UnionType:
        if value is None:
            return None
        return _decode_value(name, arguments[0], value)
    elif value in arguments and isinstance(value, str):  # Literal
        return value
    raise ValueError(f"{name} cannot be {value!r}")
