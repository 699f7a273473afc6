"""Pictures made to exhaust memory, read in a process that may not have much."""

import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

pytestmark = pytest.mark.process

if sys.platform != "linux":
    pytest.skip("only Linux limits the address space reliably", allow_module_level=True)

MEGABYTES = 700

READER = f"""
import resource
import sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, ({MEGABYTES} << 20, {MEGABYTES} << 20))
from diffcli.errors import DiffcliError
from diffcli.files.embedded import read_document
from diffcli.files.reading import open_picture
for name in sys.argv[1:]:
    for read in (open_picture, read_document):
        try:
            found = read(Path(name))
            print(name, "read", getattr(found, "size", ""))
        except DiffcliError as error:
            print(name, "refused", error)
"""


def chunk(kind: bytes, content: bytes) -> bytes:
    checked = kind + content
    return len(content).to_bytes(4, "big") + checked + zlib.crc32(checked).to_bytes(4, "big")


def png(width: int, height: int, *extra: bytes, data: bytes = b"") -> bytes:
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    head = chunk(b"IHDR", size + bytes([8, 0, 0, 0, 0]))
    pixels = chunk(b"IDAT", zlib.compress(data or bytes((width + 1) * height)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + pixels + chunk(b"IEND", b"")


def bomb(path: Path) -> None:
    """400 million pixels that are a few bytes."""
    path.write_bytes(png(20_000, 20_000, data=b"\0" * 100))


def many_pixels(path: Path) -> None:
    """Really compressed: 85 million, just below what Pillow warns of."""
    path.write_bytes(png(9_200, 9_200))


def colours(path: Path) -> None:
    """240 MB once it is decoded, which may be held twice, but not three times."""
    Image.new("RGB", (10_000, 6_000)).save(path, compress_level=1)


def text_bomb(path: Path) -> None:
    """Metadata of 300 MB in 300 kB."""
    text = b"diffcli\0\0" + zlib.compress(b"a" * (300 << 20))
    path.write_bytes(png(8, 8, chunk(b"zTXt", text)))


def much_text(path: Path) -> None:
    path.write_bytes(png(8, 8, chunk(b"tEXt", b"comment\0" + b"a" * (100 << 20))))


def long_line(path: Path) -> None:
    Image.new("L", (30_000, 1)).save(path)


def single(path: Path) -> None:
    Image.new("L", (1, 1)).save(path)


def nothing(path: Path) -> None:
    path.write_bytes(png(0, 0, data=b"\0"))


def animated(path: Path) -> None:
    frames = [Image.new("L", (300, 300), value % 256) for value in range(600)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def inks(path: Path) -> None:
    Image.new("CMYK", (20, 10), (10, 200, 30, 0)).save(path)


def broken_exif(path: Path) -> None:
    Image.new("RGB", (20, 10)).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")


def deep_document(path: Path) -> None:
    info = PngInfo()
    info.add_text("diffcli", "[" * 500_000)
    Image.new("L", (8, 8)).save(path, pnginfo=info)


PICTURES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "bomb.png": (bomb, "refused", "million pixels"),
    "many.png": (many_pixels, "read", "(9200, 9200)"),
    "colours.png": (colours, "read", "(10000, 6000)"),
    "text-bomb.png": (text_bomb, "", ""),
    "much-text.png": (much_text, "", ""),
    "line.png": (long_line, "read", "(30000, 1)"),
    "single.png": (single, "read", "(1, 1)"),
    "nothing.png": (nothing, "refused", ""),
    "animated.gif": (animated, "read", "(300, 300)"),
    "inks.jpg": (inks, "read", "(20, 10)"),
    "broken.jpg": (broken_exif, "", ""),
    "deep.png": (deep_document, "read", "(8, 8)"),
}


def test_no_picture_takes_more_memory_than_there_is(tmp_path: Path) -> None:
    for name, (make, *_) in PICTURES.items():
        make(tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-c", READER, *PICTURES],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(PICTURES)
    for name, first, second in zip(PICTURES, lines[::2], lines[1::2], strict=True):
        _, how, words = PICTURES[name]
        assert first.startswith(f"{name} {how}"), first
        assert words in first
        assert second.startswith(f"{name} refused"), second
        assert len(first) + len(second) < 2000
