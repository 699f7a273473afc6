"""Damaged files of every kind that is read: an error in one line or a correct result, always."""

import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffcli.core.parameters import SamplingSettings
from diffcli.data.folder import load_folder
from diffcli.data.idx import load_idx_pair
from diffcli.errors import DiffcliError
from diffcli.files.arrays import load_npz, save_npz
from diffcli.files.checkpoint import load_model, save_model
from diffcli.files.inspection import inspect
from diffcli.files.locations import CONFIG_FILE
from diffcli.files.pictures import encode_png
from diffcli.files.reading import open_picture
from diffcli.sampling.provenance import ModelIdentity, Provenance, read_provenance
from diffcli.sampling.request import SampleRequest
from diffcli.training.config import RunConfig
from diffcli.training.run_folder import RunFolder
from tests import tiny

SPLICES = [
    b"NaN", b"-1", b"1e999", b"10000000000000000000000", b"[" * 2000, b'{"a":' * 500, b"null",
    b'"__metadata__"', b"\x1b[31m", b"[bold]", b"../../etc/passwd", b"\x00" * 9, b"\xff" * 8,
    b'"F64"', b'"I64"', b"true", b"\\ud800", b"\xe2\x80\xae",
]  # fmt: skip

Read = Callable[[Path], object]


def model(path: Path) -> Read:
    save_model(path, tiny.description(), tiny.network().state_dict())
    return load_model


def described(path: Path) -> Read:
    save_model(path, tiny.description(), tiny.network().state_dict())
    return inspect


def drawn(path: Path) -> Read:
    identity = ModelIdentity("a", "0" * 64, "none", "v_prediction", tiny.COSINE)
    request = SampleRequest((0, 1), 1, 5, SamplingSettings(guidance_scale=2.0))
    provenance = Provenance(identity, ("zero", "one"), request, "grid")
    path.write_bytes(encode_png(Image.effect_noise((12, 9), 80), provenance.embedded()))
    return read_provenance


def picture(kind: str) -> Callable[[Path], Read]:
    def make(path: Path) -> Read:
        Image.effect_noise((24, 17), 80).convert("RGB").save(path, kind)
        return open_picture

    return make


def folder(path: Path) -> Read:
    Image.effect_noise((12, 9), 80).save(path)
    return lambda at: load_folder(at.parent)


def arrays(path: Path) -> Read:
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    save_npz(path, images, torch.arange(3), range(3))
    return load_npz


def idx(path: Path) -> Read:
    images = np.zeros((3, 8, 8), np.uint8)
    path.write_bytes(
        bytes([0, 0, 8, 3])
        + b"".join(size.to_bytes(4, "big") for size in images.shape)
        + images.tobytes()
    )
    labels = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
    labels.write_bytes(bytes([0, 0, 8, 1]) + (3).to_bytes(4, "big") + bytes([0, 1, 2]))
    return load_idx_pair


def run(path: Path) -> Read:
    RunFolder(path.parent).save_config(RunConfig(max_seconds=60))
    return lambda at: RunFolder(at.parent).config()


KINDS: dict[str, tuple[str, Callable[[Path], Read]]] = {
    "model": ("a.safetensors", model),
    "model, for people": ("a.safetensors", described),
    "drawn picture": ("a.png", drawn),
    "folder of pictures": ("a.png", folder),
    "arrays": ("a.npz", arrays),
    "IDX": ("a-images-idx3-ubyte", idx),
    "configuration": (CONFIG_FILE, run),
    **{
        kind: (f"a.{kind.lower()}", picture(kind))
        for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "JPEG2000")
    },
}


def damaged(content: bytes, chance: random.Random) -> bytes:
    """One to three changes, most of them in the first 3,000 bytes, where headers are."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        end = min(len(data), 3000) if chance.random() < 0.8 else len(data)
        at = chance.randrange(max(1, end))
        length = chance.choice((1, 2, 8, 100))
        match chance.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 1 if data:
                data[at % len(data)] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, ord("9"), ord('"')))
            case 2:
                del data[at:]
            case 3:
                del data[at : at + length]
            case 4:
                data[at:at] = data[at : at + length]
            case 5:
                data[at:at] = chance.choice(SPLICES)
            case 6:
                piece = chance.choice(SPLICES)
                data[at : at + len(piece)] = piece
    return bytes(data)


def check(kind: str, place: Path, cases: int, seed: int) -> int:
    """Read damaged files of a kind; returns how many were refused."""
    name, make = KINDS[kind]
    path = place / name
    read = make(path)
    content = path.read_bytes()
    read(path)
    refused = 0
    chance = random.Random(seed)
    for _ in range(cases):
        path.write_bytes(damaged(content, chance))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                read(path)
        except DiffcliError as error:
            refused += 1
            message = str(error)
            assert len(message) < 2000
            assert message.isprintable(), repr(message)
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind: str, tmp_path: Path) -> None:
    assert check(kind, tmp_path, cases=150, seed=1) > 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files(kind: str, tmp_path: Path) -> None:
    """20,000 models, 2,000 of all else, in bounded memory."""
    before = peak_memory()
    check(kind, tmp_path, cases=20_000 if kind == "model" else 2000, seed=2)
    assert peak_memory() - before < 1 << 30


def peak_memory() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
