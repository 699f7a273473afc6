"""The text in a picture: found again in every format, and never trusted."""

import io
import json
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from diffcli.errors import DiffcliError, UsageError
from diffcli.files.embedded import DOCUMENT_KEY, PARAMETERS_KEY, Embedded, read_document

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ENDINGS = {"PNG": "png", "GIF": "gif", "WEBP": "webp"}


def write(path: Path, kind: str, document: dict[str, object]) -> None:
    options = Embedded(document, "label ü\nSteps: 4").options(kind)
    Image.new("L", (5, 4), 7).save(path, kind, **options)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(document=st.dictionaries(st.text(), JSON, max_size=5), kind=st.sampled_from(sorted(ENDINGS)))
def test_a_document_comes_back_from_every_format(
    tmp_path: Path, document: dict[str, object], kind: str
) -> None:
    path = tmp_path / f"picture.{ENDINGS[kind]}"
    write(path, kind, document)
    assert read_document(path) == document


def test_a_png_shows_the_parameters_to_other_programs(tmp_path: Path) -> None:
    write(tmp_path / "a.png", "PNG", {"a": 1})
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info[PARAMETERS_KEY] == "label ü\nSteps: 4"
        assert json.loads(picture.info[DOCUMENT_KEY]) == {"a": 1}


def png_with(text: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    content = b"tEXt" + DOCUMENT_KEY.encode() + b"\0" + text
    chunk = struct.pack(">I", len(content) - 4) + content
    chunk += struct.pack(">I", zlib.crc32(content))
    return buffer.getvalue()[:33] + chunk + buffer.getvalue()[33:]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no PNG"),
        (b"not a picture at all", "no PNG"),
        (b"\x89PNG\r\n\x1a\n", "no PNG"),
        (png_with(b"{"), "no JSON"),
        (png_with(b"[1]"), "no JSON object"),
        (png_with(b'{"a": NaN}'), "no JSON"),
        (png_with(b'{"a": 1e999}'), "no JSON"),
        (png_with(b"\xff\xfe"), "no JSON"),
        (png_with(b'{"a":' + b"[" * 40 + b"]" * 40 + b"}"), "too deeply"),
        (png_with(b"[" * 100_000), "no JSON"),
        (png_with(b'{"a":"' + b"x" * (1 << 20) + b'"}'), "no metadata of diffcli|damaged"),
    ],
)
def test_what_is_no_document_is_one_line(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "strange.png"
    path.write_bytes(content)
    with pytest.raises(DiffcliError, match=why) as caught:
        read_document(path)
    assert "\n" not in str(caught.value)


def test_a_lack_of_memory_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError):
        read_document(Path("a.png"))


def test_a_missing_file_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"there is no picture nowhere\.png"):
        read_document(Path("nowhere.png"))
