import contextlib
import io
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from diffcli.errors import DiffcliError, UsageError
from diffcli.files.reading import READABLE_SUFFIXES, open_picture

CORNERS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (9, 8, 7)]


def picture() -> Image.Image:
    """Three columns, two rows, all different: no turn or flip leaves it as it is."""
    made = Image.new("RGB", (3, 2))
    made.putdata(CORNERS)
    return made


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".tga", ".tiff"])
def test_formats_that_lose_nothing(tmp_path: Path, suffix: str) -> None:
    picture().save(tmp_path / f"a{suffix}")
    assert open_picture(tmp_path / f"a{suffix}").tobytes() == picture().tobytes()


@pytest.mark.parametrize("suffix", sorted(READABLE_SUFFIXES - {".pgm", ".pbm", ".pnm"}))
def test_every_format_by_its_usual_ending(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (16, 16), (200, 40, 90)).save(tmp_path / f"a{suffix}")
    opened = open_picture(tmp_path / f"a{suffix}")
    assert (opened.mode, opened.size) == ("RGB", (16, 16))
    middle = opened.getpixel((8, 8))
    assert isinstance(middle, tuple)
    assert all(abs(a - b) <= 6 for a, b in zip(middle, (200, 40, 90), strict=True))


@pytest.mark.parametrize("kind", ["PCX", "SGI", "DDS", "XBM"])
def test_no_decoder_of_a_rare_format_sees_a_file(tmp_path: Path, kind: str) -> None:
    Image.new("1" if kind == "XBM" else "L", (8, 8)).save(tmp_path / "a.png", kind)
    with pytest.raises(DiffcliError, match="it is none of PNG, JPEG"):
        open_picture(tmp_path / "a.png")


def test_the_ending_does_not_matter(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert open_picture(tmp_path / "a.jpg").tobytes() == picture().tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_come_upright(tmp_path: Path, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture().transpose(undo[orientation]) if orientation > 1 else picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    opened = open_picture(tmp_path / "a.png")
    assert opened.size == (3, 2)
    assert opened.tobytes() == picture().tobytes()


def test_16_bits_of_grey_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = [0, 128, 257, 30_000, 32_896, 65_535]
    deep = Image.new("I;16", (6, 1))
    deep.putdata(values)
    deep.save(tmp_path / "a.png")
    opened = open_picture(tmp_path / "a.png")
    assert opened.mode == "L"
    assert list(opened.tobytes()) == [round(value / 257) for value in values]


def test_floats_are_stretched(tmp_path: Path) -> None:
    deep = Image.new("F", (3, 1))
    deep.putdata([-2.0, 0.0, 2.0])
    deep.save(tmp_path / "a.tif")
    assert list(open_picture(tmp_path / "a.tif").tobytes()) == [0, 128, 255]


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (3, 1))
    clear.putdata([(255, 0, 0, 0), (255, 0, 0, 255), (0, 0, 0, 51)])
    clear.save(tmp_path / "a.png")
    assert list(open_picture(tmp_path / "a.png").tobytes()) == [
        *(255, 255, 255),
        *(255, 0, 0),
        *(204, 204, 204),
    ]


def test_a_transparent_grey_picture_stays_grey(tmp_path: Path) -> None:
    clear = Image.new("LA", (2, 1))
    clear.putdata([(0, 0), (70, 255)])
    clear.save(tmp_path / "a.png")
    opened = open_picture(tmp_path / "a.png")
    assert (opened.mode, list(opened.tobytes())) == ("L", [255, 70])


def test_a_palette_with_a_transparent_entry(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1])
    palette.save(tmp_path / "a.png", transparency=0)
    opened = open_picture(tmp_path / "a.png")
    assert list(opened.tobytes()) == [255, 255, 255, 40, 50, 60]


def test_one_bit(tmp_path: Path) -> None:
    bits = Image.new("1", (2, 1))
    bits.putdata([0, 255])
    bits.save(tmp_path / "a.png")
    opened = open_picture(tmp_path / "a.png")
    assert (opened.mode, list(opened.tobytes())) == ("L", [0, 255])


def test_of_an_animation_the_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert open_picture(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize((40, 40)).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF"])
def test_half_a_file(tmp_path: Path, kind: str) -> None:
    content = encoded(kind)
    (tmp_path / "a").write_bytes(content[: len(content) // 2])
    with pytest.raises(DiffcliError, match=r"cannot read the picture .*; use another one"):
        open_picture(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "it is none of PNG"), (b"no picture", "it is none of PNG")]
)
def test_no_picture(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DiffcliError, match=why):
        open_picture(tmp_path / "a.png")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no picture .*a\.png; name another one"):
        open_picture(tmp_path / "a.png")
    with pytest.raises(DiffcliError, match=r"Is a directory|Permission"):
        open_picture(tmp_path)


@pytest.mark.parametrize("pixels", [100, 300])
@pytest.mark.parametrize("warned", ["ignore", "error"])
def test_a_decompression_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int, warned: Literal["ignore", "error"]
) -> None:
    """Whatever the program does with Pillow's warning."""
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    with warnings.catch_warnings():
        warnings.simplefilter(warned)
        with pytest.raises(DiffcliError, match="million pixels"):
            open_picture(tmp_path / "a.png")


@pytest.mark.parametrize("pixels", [400, None])
def test_no_decompression_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: int | None
) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pixels)
    assert open_picture(tmp_path / "a.png").size == (20, 20)


@pytest.mark.process
def test_other_parts_of_a_program_read_pictures_as_before() -> None:
    program = (
        "import warnings; from PIL import Image\n"
        "before = list(warnings.filters)\n"
        "import diffcli.files.reading\n"
        "assert warnings.filters == before, warnings.filters\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_lack_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture().save(tmp_path / "a.png")

    def fail(_: Image.Image) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(ImageOps, "exif_transpose", fail)
    with pytest.raises(MemoryError):
        open_picture(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "TGA"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_is_one_error(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    content = bytearray(encoded(kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a").write_bytes(content)
    with contextlib.suppress(DiffcliError):
        assert open_picture(tmp_path / "a").mode in ("L", "RGB")


@pytest.mark.process
def test_reading_needs_no_torch(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png")
    program = (
        "import sys; from pathlib import Path; from diffcli.files.reading import open_picture; "
        "open_picture(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "a.png"], check=True)
