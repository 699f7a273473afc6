"""Reading pictures of any usual format, upright and without transparency."""

import math
from pathlib import Path
from typing import cast

from PIL import Image, ImageOps, UnidentifiedImageError

from diffcli.errors import DiffcliError, UsageError

READABLE = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000", "ICO", "TGA")
"""Named, so that no decoder of a rare format ever sees a file."""

READABLE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".avif"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".ico", ".tga"}
)
"""The endings, in lower case, that files of these formats usually have."""

_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_DEEP_GREY_MODES = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})


def open_picture(path: Path) -> Image.Image:
    """Read a picture, rotated as its EXIF data says, on white if transparent; one frame only.

    Returns:
        A picture of mode ``L`` if it is stored in shades of grey, else ``RGB``.

    Raises:
        UsageError: if there is no such file.
        DiffcliError: if there is no picture in it that can be decoded, or it has more pixels than
            Pillow warns of.
        MemoryError: if there is not enough memory.
    """
    try:
        with Image.open(path, formats=READABLE) as picture:
            # Pillow refuses twice as many; of these it warns, and what becomes of warnings is for
            # the program to say, which may be a notebook.
            if picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or math.inf):
                raise Image.DecompressionBombError
            picture.load()
            return _flattened(ImageOps.exif_transpose(picture))
    except UnidentifiedImageError as error:
        raise _unusable(path, f"it is none of {', '.join(READABLE)}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _unusable(
            path, f"it has over {(Image.MAX_IMAGE_PIXELS or 0) // 10**6} million pixels"
        ) from error
    except FileNotFoundError as error:
        raise UsageError(f"there is no picture {path}; name another one") from error
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise _unusable(path, f"it is damaged ({error})") from error


def _unusable(path: Path, why: str) -> DiffcliError:
    return DiffcliError(f"cannot read the picture {path}: {why}; use another one")


def _flattened(picture: Image.Image) -> Image.Image:
    if picture.mode in _DEEP_GREY_MODES:
        return _eight_bits(picture)
    target = "L" if picture.mode in _GREY_MODES else "RGB"
    if picture.has_transparency_data:
        ground = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(ground, picture.convert("RGBA")).convert(target)
    return picture if picture.mode == target else picture.convert(target)


def _eight_bits(picture: Image.Image) -> Image.Image:
    """Grey values of more than 8 bits as ``L``: 16 bits scaled, floats from minimum to maximum.

    Pillow itself would clip them.
    """
    values = picture.convert("F")
    low, high = 0.0, 2.0**16 - 1
    if picture.mode == "F":
        low, high = cast("tuple[float, float]", values.getextrema())
    scale = 255 / (high - low) if high > low else 0.0
    # Plus a half, because the conversion truncates.
    return values.point(lambda value: value * scale + (0.5 - low * scale)).convert("L")
