"""What a checkpoint or a picture says of itself, read without torch."""

import hashlib
from pathlib import Path
from typing import Any

from diffcli.errors import DiffcliError
from diffcli.files.embedded import read_document
from diffcli.files.header import count_parameters, read_metadata

_PNG, _GIF, _RIFF = b"\x89PNG", b"GIF8", b"RIFF"


def inspect(path: Path) -> dict[str, Any]:
    """The kind, size and SHA-256 of a file, and under ``metadata`` what is written in it.

    Raises:
        DiffcliError: if it is neither a checkpoint nor a picture, or has no metadata.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(4)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DiffcliError(f"cannot read {path}: {error.strerror or error}") from error
    found = {"file": str(path), "bytes": path.stat().st_size, "sha256": digest}
    if beginning in (_PNG, _GIF, _RIFF):
        return {"kind": "picture", **found, "metadata": read_document(path)}
    if path.suffix != ".safetensors":
        raise DiffcliError(f"{path} is neither a PNG, GIF or WebP nor a .safetensors file")
    document = read_metadata(path)
    return {"kind": "model", **found, "parameters": count_parameters(path), "metadata": document}


def flattened(document: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Dotted names and values of a JSON object, as one line of text each."""
    rows: list[tuple[str, str]] = []
    for name, value in document.items():
        if isinstance(value, dict) and value:
            rows += flattened(value, f"{prefix}{name}.")
        elif value is not None:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append((_one_line(prefix + name), _one_line(text)))
    return rows


def _one_line(text: str) -> str:
    # Control characters from a file must not reach the terminal.
    return "".join(character if character.isprintable() else "?" for character in text)
