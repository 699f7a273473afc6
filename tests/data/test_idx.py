"""IDX files, which come from strangers too."""

import gzip
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcli.data.idx import load_idx_pair, read_idx
from diffcli.data.sources import load_data
from diffcli.errors import DiffcliError
from tests.data.files import idx, put


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple))
def test_bytes_come_back_in_order(shape: tuple[int, ...]) -> None:
    count = int(torch.tensor(shape).prod())
    content = bytes(index % 251 for index in range(count))
    parsed = read_idx(BytesIO(idx(shape, content)))
    assert tuple(parsed.shape) == shape
    assert bytes(parsed.flatten().tolist()) == content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x0d\x01\0\0\0\x01\0",
        b"PK\x03\x04",
        idx((3,), b"ab"),
        idx((2,), b"abc"),
    ],
)
def test_what_is_no_idx_file_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"IDX|header"):
        read_idx(BytesIO(content))


def test_no_images_are_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "some-images-idx3-ubyte").write_bytes(idx((0, 2, 3), b""))
    (tmp_path / "some-labels-idx1-ubyte").write_bytes(idx((0,), b""))
    with pytest.raises(DiffcliError, match=r"has no pixels: its shape is \[0, 2, 3\]"):
        load_idx_pair(tmp_path / "some-images-idx3-ubyte")


@pytest.mark.parametrize("shape", [(5, 0, 28), (5, 28, 0)])
def test_images_without_pixels_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "some-images-idx3-ubyte").write_bytes(idx(shape, b""))
    (tmp_path / "some-labels-idx1-ubyte").write_bytes(idx((5,), bytes(5)))
    with pytest.raises(DiffcliError, match=rf"has no pixels: its shape is \[5, {shape[1]}"):
        load_data(str(tmp_path / "some-images-idx3-ubyte"))


@given(st.binary(max_size=40))
def test_no_bytes_do_worse_than_a_value_error(content: bytes) -> None:
    try:
        parsed = read_idx(BytesIO(content))
    except ValueError:
        return
    assert parsed.numel() + 4 + 4 * parsed.ndim == len(content)


def test_no_more_is_unpacked_than_the_header_says(tmp_path: Path) -> None:
    bomb = idx((2, 2, 2), bytes(8) + bytes(50_000_000))
    (tmp_path / "images.gz").write_bytes(gzip.compress(bomb))
    tracemalloc.start()
    with pytest.raises(DiffcliError, match=r"its header says \[2, 2, 2\], and it is longer"):
        load_idx_pair(tmp_path / "images.gz")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10_000_000


@pytest.mark.parametrize("shape", [(0, 2**31, 2**32 - 1), (2**32 - 1, 2**32 - 1, 0)])
def test_empty_arrays_of_terabytes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="over 4 GiB"):
        read_idx(BytesIO(idx(shape, b"")))


def test_a_header_of_terabytes_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="which is over 4 GiB"):
        read_idx(BytesIO(idx((2**16, 2**16, 2**8), b"")))


@pytest.mark.parametrize("packed", [False, True])
def test_labels_are_found_beside_the_images(packed: bool, tmp_path: Path) -> None:
    pack = gzip.compress if packed else bytes
    ending = ".gz" if packed else ""
    images = tmp_path / f"some-images-idx3-ubyte{ending}"
    images.write_bytes(pack(idx((2, 2, 3), bytes(range(12)))))
    with pytest.raises(DiffcliError, match="some-labels-idx1-ubyte"):
        load_idx_pair(images)
    images.with_name(f"some-labels-idx1-ubyte{ending}").write_bytes(pack(idx((2,), b"\x04\x01")))
    data = load_idx_pair(images)
    assert data.images.shape == (2, 1, 2, 3)
    assert data.labels.tolist() == [4, 1]
    assert data.class_names == ("0", "1", "2", "3", "4")


def test_images_and_labels_have_to_agree(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(idx((2, 2, 2), bytes(8)))
    (tmp_path / "labels").write_bytes(idx((3,), bytes(3)))
    with pytest.raises(DiffcliError, match="do not fit together"):
        load_idx_pair(tmp_path / "images")


def test_images_are_resized_to_a_height_and_a_width(tmp_path: Path) -> None:
    images = torch.zeros(5, 8, 4)
    images[:, 3:5] = 200  # all that is left where a picture is twice as wide as it is high
    put(tmp_path / "images-idx3", images, torch.arange(5) % 2)
    data = load_data(str(tmp_path / "images-idx3"), (2, 4))
    for part, count in ((data.train, 4), (data.held_out, 1)):
        assert torch.equal(part.images, torch.full((count, 1, 2, 4), 200, dtype=torch.uint8))
