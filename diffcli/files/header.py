"""What a safetensors file says of itself: the JSON document about its weights, and their shapes.

This module does not import torch.
"""

import math
import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from diffcli.errors import DiffcliError, UsageError
from diffcli.files.documents import parse_document
from diffcli.files.naming import is_unicode

METADATA_KEY = "diffcli"
FORMAT_VERSION = 1

# Ours take a few kilobytes; the library itself would read and parse a header of 100 MB.
_MAX_HEADER = 4 << 20


class FileKind(NamedTuple):
    """What a file should be, for error messages.

    Args:
        name: in words.
        argument: see ``DiffcliError``.
    """

    name: str
    argument: str


MODEL = FileKind("diffcli model", "model")


@contextmanager
def open_weights(path: Path, kind: FileKind, framework: str = "numpy") -> Iterator[Any]:
    """Open a safetensors file; the library checks that header and length fit together.

    Args:
        path: the file.
        kind: what it should be.
        framework: of the tensors, ``numpy`` or ``pt``.

    Raises:
        UsageError: if it is missing, or the path is not valid Unicode.
        DiffcliError: if it is truncated, or no safetensors file; from the block, too,
            if the library refuses what is read there.
    """
    # The library opens no other, and the name of a model is written into other files.
    if not is_unicode(str(path)):
        raise UsageError(f"the path {path} is not valid Unicode; rename it", kind.argument)
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
        if size > _MAX_HEADER:
            raise unusable(path, "it is no safetensors file", kind)
        with safe_open(path, framework) as weights:
            yield weights
    except SafetensorError as error:
        raise unusable(path, f"it is damaged or no safetensors file ({error})", kind) from error
    except FileNotFoundError as error:
        raise UsageError(f"there is no {kind.name} {path}", kind.argument) from error
    except OSError as error:
        reason = error.strerror or error
        raise DiffcliError(
            f"cannot read the {kind.name} {path}: {reason}", kind.argument
        ) from error


def read_metadata(path: Path, kind: FileKind = MODEL) -> dict[str, Any]:
    """The JSON document in a file that diffcli wrote.

    Raises:
        DiffcliError: if it is no such file, or of a format version that this release cannot read.
    """
    with open_weights(path, kind) as weights:
        text = (weights.metadata() or {}).get(METADATA_KEY)
    if text is None:
        raise unusable(path, "diffcli did not write it", kind)
    try:
        document = parse_document(text)
    except ValueError as error:
        raise unusable(path, str(error), kind) from error
    version = document.pop("format_version", None)
    if version != FORMAT_VERSION:
        found = reprlib.repr(version)
        why = f"its format version is {found} and this release reads {FORMAT_VERSION}"
        if isinstance(version, int) and version > FORMAT_VERSION:
            why += f"; install {_release(document)}"
        raise unusable(path, why, kind)
    return document


def _release(document: dict[str, Any]) -> str:
    """The release that wrote a document of a later format, as far as it says so."""
    training = document.get("training")
    release = training.get("diffcli") if isinstance(training, dict) else None
    if isinstance(release, str) and re.fullmatch(r"[0-9][\w.+-]{0,30}", release):
        return f"diffcli {release} or a newer one"
    return "a newer diffcli"


def count_parameters(path: Path, kind: FileKind = MODEL) -> int:
    """How many numbers a file's tensors hold.

    Raises:
        DiffcliError: see ``open_weights``.
    """
    with open_weights(path, kind) as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.offset_keys())


def unusable(path: Path, why: str, kind: FileKind) -> DiffcliError:
    """The error for a file that is not what it should be."""
    return DiffcliError(f"{path} is not a usable {kind.name}: {why}", kind.argument)
