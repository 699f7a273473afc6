import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcli.errors import DiffcliError, UsageError
from diffcli.files.arrays import load_npz, save_npz


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


def header(descr: str, shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


@given(
    count=st.integers(1, 4),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    with_seeds=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    channels: int,
    height: int,
    width: int,
    with_seeds: bool,
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("npz") / "data.npz"
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(
        256, (count, channels, height, width), generator=generator, dtype=torch.uint8
    )
    labels = torch.randint(10, (count,), generator=generator)
    seeds = [2**40 + index for index in range(count)] if with_seeds else None
    save_npz(path, images, labels, seeds)
    read = load_npz(path)
    assert torch.equal(read.images, images)
    assert torch.equal(read.labels, labels)
    assert (None if read.seeds is None else read.seeds.tolist()) == seeds


def test_numpy_reads_the_documented_arrays(tmp_path: Path) -> None:
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    save_npz(tmp_path / "rgb.npz", images, torch.tensor([7, 1]), [11, 12])
    save_npz(tmp_path / "grey.npz", images[:, :1], torch.tensor([7, 1]))
    with np.load(tmp_path / "rgb.npz") as rgb:
        assert rgb["images"].dtype == np.uint8
        assert rgb["images"].shape == (2, 4, 5, 3)
        assert rgb["images"][1, 2, 3, 0] == images[1, 0, 2, 3]
        assert rgb["labels"].dtype == rgb["seeds"].dtype == np.int64
        assert rgb["seeds"].tolist() == [11, 12]
    with np.load(tmp_path / "grey.npz") as grey:
        assert grey["images"].shape == (2, 4, 5)
        assert sorted(grey) == ["images", "labels"]


def test_the_same_pictures_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_npz(tmp_path / name, torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.arange(3))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_arrays_of_other_tools_are_read(tmp_path: Path) -> None:
    images = np.asfortranarray(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))
    np.savez(tmp_path / "plain.npz", images=images, labels=np.array([3, 4], dtype=">i2"), note=1)
    read = load_npz(tmp_path / "plain.npz")
    assert read.images[:, 0].tolist() == images.tolist()
    assert read.labels.tolist() == [3, 4]
    assert read.seeds is None


IMAGES = np.zeros((2, 4, 4), np.uint8)
LABELS = np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("arrays", "what"),
    [
        ({"labels": LABELS}, "no array 'images'"),
        ({"images": IMAGES}, "no array 'labels'"),
        ({"images": IMAGES / 2, "labels": LABELS}, "images is float64"),
        ({"images": IMAGES[0], "labels": LABELS}, r"images is uint8 \(4, 4\)"),
        ({"images": IMAGES[..., None], "labels": LABELS}, r"images is uint8 \(2, 4, 4, 1\)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "nothing in it"),
        ({"images": IMAGES, "labels": LABELS[:1]}, r"labels is int64 \(1,\)"),
        ({"images": IMAGES, "labels": LABELS / 2}, "labels is float64"),
        ({"images": IMAGES, "labels": LABELS, "seeds": LABELS[:1]}, "seeds is int64"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], what: str) -> None:
    np.savez(tmp_path / "odd.npz", allow_pickle=False, **arrays)
    with pytest.raises(DiffcliError, match=what):
        load_npz(tmp_path / "odd.npz")


class Trap:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    pickled = pickle.dumps(Trap(tmp_path / "sprung"))
    pickled += bytes(-len(pickled) % 8)  # as long as so many references
    labels = header("|O", (len(pickled) // 8,)) + pickled
    images = header("|u1", (2, 4, 4)) + IMAGES.tobytes()
    with pytest.raises(DiffcliError, match="labels"):
        load_npz(archive(tmp_path / "a.npz", images=images, labels=labels))
    assert not (tmp_path / "sprung").exists()


def test_a_header_that_promises_too_much_is_not_believed(tmp_path: Path) -> None:
    labels = header("<i8", (2,)) + LABELS.tobytes()
    path = archive(tmp_path / "a.npz", images=header("|u1", (2**40, 4, 4)), labels=labels)
    with pytest.raises(DiffcliError, match="no npz of labelled pictures"):
        load_npz(path)


def test_a_large_array_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(
        tmp_path / "a.npz", images=np.zeros((1000, 8, 8), np.uint8), labels=np.zeros(1000, int)
    )
    monkeypatch.setattr("diffcli.files.arrays._MAX_BYTES", 50_000)
    with pytest.raises(DiffcliError, match="its array 'images' has 64,128 bytes"):
        load_npz(tmp_path / "a.npz")


def test_a_member_without_its_suffix_is_not_taken_for_the_array(tmp_path: Path) -> None:
    """Of two members of one name, NumPy reads the one whose size was not compared."""
    save_npz(tmp_path / "a.npz", torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([3, 4]))
    large = header("|u1", (1000, 8, 8)) + bytes(64_000)
    with zipfile.ZipFile(tmp_path / "a.npz", "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("images", large)
        file.writestr("labels", b"no array")
    read = load_npz(tmp_path / "a.npz")
    assert (read.images.shape, read.labels.tolist()) == ((2, 1, 4, 4), [3, 4])
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        file.writestr("images", large)
    with pytest.raises(DiffcliError, match="no array 'images'"):
        load_npz(tmp_path / "b.npz")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    save_npz(tmp_path / "whole.npz", torch.randint(256, (9, 1, 8, 8)).byte(), torch.arange(9))
    whole = (tmp_path / "whole.npz").read_bytes()
    damaged = tmp_path / "damaged.npz"
    flipped = bytearray(whole)
    flipped[300] ^= 0xFF  # within the pixels
    for content in (b"", b"no archive", whole[: len(whole) // 2], bytes(flipped)):
        damaged.write_bytes(content)
        with pytest.raises(DiffcliError, match=r"damaged\.npz"):
            load_npz(damaged)
    with pytest.raises(UsageError, match=r"there is no npz .*absent\.npz"):
        load_npz(tmp_path / "absent.npz")


def test_an_error_of_an_unknown_compression_is_one_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ZstdError(Exception):
        """As of Python 3.14: of no class that zipfile documents."""

    def fail(*_: object) -> None:
        raise ZstdError("Unable to decompress Zstandard data")

    save_npz(tmp_path / "a.npz", torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([3, 4]))
    monkeypatch.setattr(zipfile.ZipFile, "open", fail)
    with pytest.raises(DiffcliError, match=r"a\.npz is no npz .*Unable to decompress Zstandard"):
        load_npz(tmp_path / "a.npz")
