"""What a safetensors file says of itself."""

import json
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diffcli.errors import DiffcliError, UsageError
from diffcli.files.header import count_parameters, read_metadata
from tests.files.test_documents import JSON

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def header(content: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(content) if size is None else size) + content


@in_one_folder
@given(content=st.binary(max_size=64) | JSON.map(lambda value: header(json.dumps(value).encode())))
def test_any_bytes_are_a_header_or_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DiffcliError):
        read_metadata(path)
    with suppress(DiffcliError):
        assert count_parameters(path) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no safetensors file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "no safetensors file"),
        (header(b"{}", size=2**63), "no safetensors file"),
        (header(b"{}" + b" " * (5 << 20)), "no safetensors file"),
        (header(b"{}", size=1000), "damaged"),
        (header(b"[]"), "no safetensors file"),
        (header(b"{nonsense}"), "no safetensors file"),
        (header(b"\xff\xfe{}"), "no safetensors file"),
        (header(b"[" * 1_000_000), "no safetensors file"),
        (header(b'{"a": 1' + b"0" * 10_000 + b"}"), "no safetensors file"),
        (header(b"{}"), "diffcli did not write it"),
        (header(b'{"__metadata__": 3}'), "damaged"),
        (header(b'{"__metadata__": {"diffcli": 3}}'), "damaged"),
        (header(b'{"__metadata__": {"diffcli": "{"}}'), "no JSON"),
        (header(b'{"__metadata__": {"diffcli": "[]"}}'), "no JSON object"),
        (header(b'{"__metadata__": {"diffcli": "{}"}}'), "format version"),
        (header(b'{"__metadata__": {"diffcli": "{\\"format_version\\": 999}"}}'), "999"),
        (header(b'{"__metadata__": {"diffcli": "{\\"a\\": NaN}"}}'), "no JSON"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_files_are_one_line_errors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(DiffcliError, match=message) as caught:
        read_metadata(path)
    text = str(caught.value)
    assert str(path) in text
    assert caught.value.argument == "model"
    assert "--" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"diffcli": "7.2.1"}, "this release reads 1; install diffcli 7.2.1 or a newer one"),
        ({"diffcli": "evil; rm -rf /"}, "this release reads 1; install a newer diffcli"),
        ({"diffcli": 3}, "install a newer diffcli"),
        ("7.2.1", "install a newer diffcli"),
    ],
)
def test_a_later_format_says_what_to_install(tmp_path: Path, training: object, words: str) -> None:
    document = json.dumps({"format_version": 2, "training": training})
    path = tmp_path / "model.safetensors"
    path.write_bytes(header(json.dumps({"__metadata__": {"diffcli": document}}).encode()))
    with pytest.raises(DiffcliError) as error:
        read_metadata(path)
    assert str(error.value).endswith(words)


def test_a_path_that_is_not_unicode_is_wrong_usage() -> None:
    for read in (read_metadata, count_parameters):
        with pytest.raises(UsageError, match=r"path m\\udcff\.safetensors is not valid"):
            read(Path("m\udcff.safetensors"))


def test_a_missing_file_and_a_folder_are_one_line_errors_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no diffcli model"):
        read_metadata(tmp_path / "nowhere")
    with pytest.raises(DiffcliError, match="cannot read the diffcli model"):
        read_metadata(tmp_path)
