"""The metadata in a picture: one JSON document, and a line that image viewers show.

A PNG holds both as text chunks, a GIF the document as its comment, a WebP as its EXIF user
comment.  This module does not import torch.
"""

import json
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from diffcli.errors import DiffcliError, UsageError
from diffcli.files.documents import parse_document

DOCUMENT_KEY = "diffcli"
PARAMETERS_KEY = "parameters"
"""The key under which other image generators write their settings as text."""

_FORMATS = ("PNG", "GIF", "WEBP")
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_ASCII_COMMENT = b"ASCII\0\0\0"
_MAX_DOCUMENT = 1 << 20


class Embedded:
    """Metadata for a picture.

    Args:
        document: a JSON object.
        parameters: the same for people, one paragraph.
    """

    def __init__(self, document: dict[str, Any], parameters: str) -> None:
        self._json = json.dumps(document, allow_nan=False)
        self._parameters = parameters

    def options(self, kind: str) -> dict[str, Any]:
        """The arguments of Pillow's ``save`` for a PNG, GIF or WEBP."""
        if kind == "GIF":
            return {"comment": self._json.encode()}
        if kind == "WEBP":
            exif = Image.Exif()
            exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = _ASCII_COMMENT + self._json.encode()
            return {"exif": exif}
        info = PngInfo()
        info.add_text(DOCUMENT_KEY, self._json)
        info.add_text(PARAMETERS_KEY, self._parameters)
        return {"pnginfo": info}


def read_document(path: Path) -> dict[str, Any]:
    """The JSON document in a picture.

    Raises:
        UsageError: if there is no such file.
        DiffcliError: if the file is no picture, or has none.
    """
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            text = _text(picture)
    except UnidentifiedImageError as error:
        raise _not_ours(path, "it is no PNG, GIF or WebP") from error
    except FileNotFoundError as error:
        raise UsageError(f"there is no picture {path}", "picture") from error
    except OSError as error:
        raise DiffcliError(f"cannot read {path}: {error.strerror or error}", "picture") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise _not_ours(path, f"it is damaged ({error})") from error
    if text is None or len(text) > _MAX_DOCUMENT:
        raise _not_ours(path, "it has no metadata of diffcli")
    try:
        return parse_document(text)
    except ValueError as error:
        raise _not_ours(path, str(error)) from error


def _text(picture: Image.Image) -> str | bytes | None:
    if picture.format == "WEBP":
        comment = picture.getexif().get_ifd(_EXIF_IFD).get(_USER_COMMENT, b"")
        return comment.removeprefix(_ASCII_COMMENT) if isinstance(comment, bytes) else None
    text = picture.info.get("comment" if picture.format == "GIF" else DOCUMENT_KEY)
    return text if isinstance(text, str | bytes) else None


def _not_ours(path: Path, why: str) -> DiffcliError:
    return DiffcliError(f"{path} does not say how it was drawn: {why}", "picture")
