"""What a checkpoint or a picture says of itself, read without torch."""

import hashlib
from pathlib import Path
from typing import Any

from diffcli.errors import DiffcliError, UsageError, printable
from diffcli.files.embedded import read_document
from diffcli.files.header import count_parameters, read_metadata

_PICTURES = (b"\x89PNG", b"GIF8", b"RIFF")


def inspect(path: Path) -> dict[str, Any]:
    """The kind, size and SHA-256 of a file, and under ``metadata`` what is written in it.

    Raises:
        UsageError: if it is no regular file.
        DiffcliError: if it is neither a checkpoint nor a picture, or has no metadata.
    """
    if not path.is_file():  # a device may never end
        raise UsageError(f"{path} is not a regular file; name a picture or a model")
    try:
        with path.open("rb") as file:
            kind, content = _content(path, file.read(9))
            file.seek(0)
            # Last, because it reads all of the file.
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DiffcliError(f"cannot read {path}: {error.strerror or error}") from error
    found = {"kind": kind, "file": str(path), "bytes": path.stat().st_size, "sha256": digest}
    return found | content


def _content(path: Path, beginning: bytes) -> tuple[str, dict[str, Any]]:
    if beginning.startswith(_PICTURES):
        return "picture", {"metadata": read_document(path)}
    # A model may have any name; JSON follows on the eight bytes with the length of its header.
    if path.suffix.lower() != ".safetensors" and beginning[8:] != b"{":
        raise DiffcliError(f"{path} is neither a PNG, GIF or WebP nor a safetensors file")
    metadata = read_metadata(path)
    return "model", {"parameters": count_parameters(path), "metadata": metadata}


def flattened(document: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and values of a JSON object, as one line of text each."""
    rows: list[tuple[str, str]] = []
    for name, value in document.items():
        if isinstance(value, dict) and value:
            rows += flattened(value, f"{prefix}{name}.")
        elif value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append((printable(prefix + name), printable(text)))
    return rows
