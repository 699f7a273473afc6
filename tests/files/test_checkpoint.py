import json
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from diffcli.core.parameters import SamplingSettings
from diffcli.core.schedule import NoiseSchedule
from diffcli.errors import DiffcliError
from diffcli.files.checkpoint import load_model, read_description, save_model
from diffcli.files.header import METADATA_KEY
from tests import tiny
from tests.files.test_documents import JSON
from tests.memory import LargestTensor

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, tiny.description(), tiny.network().state_dict())
    return path


def split(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def join(path: Path, header: dict[str, Any], body: bytes) -> None:
    content = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content + body)


def change_document(path: Path, change: Change) -> None:
    """Rewrite the description inside a checkpoint, and leave all else as it is."""
    header, body = split(path)
    document = json.loads(header["__metadata__"][METADATA_KEY])
    change(document)
    header["__metadata__"][METADATA_KEY] = json.dumps(document)
    join(path, header, body)


def assert_refused(path: Path, message: str = "not a usable diffcli model") -> None:
    with pytest.raises(DiffcliError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["epsilon", "x0", "v_prediction", "flow"])
def test_what_is_saved_is_loaded(tmp_path: Path, kind: Any) -> None:
    description = tiny.description(
        prediction_type=kind, sampling=SamplingSettings("ddim", 3, guidance_scale=1.5)
    )
    description = replace(description, training={"loss": 0.1, "note": "ü", "steps": None})
    weights = tiny.network().state_dict()
    path = tmp_path / "model.safetensors"
    save_model(path, description, weights)
    loaded, denoiser = load_model(path)
    assert loaded == description == read_description(path)
    stored = denoiser.network.state_dict()
    assert stored.keys() == weights.keys()
    assert all(torch.equal(stored[name], weights[name]) for name in weights)
    expected = NoiseSchedule.from_config(description.schedule).betas
    assert torch.equal(denoiser.schedule.betas, expected)
    assert denoiser.prediction_type == kind
    assert not denoiser.training
    assert not any(param.requires_grad for param in denoiser.parameters())


def test_a_loaded_model_answers_as_it_did(saved: Path) -> None:
    x, labels = torch.randn(2, 1, 8, 8), torch.tensor([0, 3])
    before = tiny.denoiser()(x, 15, labels)
    after = load_model(saved)[1](x, 15, labels)
    assert torch.allclose(before.x0, after.x0, atol=1e-6)
    assert torch.allclose(before.epsilon, after.epsilon, atol=1e-6)


def test_the_same_model_is_the_same_file(saved: Path, tmp_path: Path) -> None:
    description, denoiser = load_model(saved)
    again = tmp_path / "again.safetensors"
    save_model(again, description, denoiser.network.state_dict())
    assert again.read_bytes() == saved.read_bytes()


def test_truncation_is_noticed_at_every_length(saved: Path) -> None:
    content = saved.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    lengths = [*range(12), size // 2, 8 + size - 1, 8 + size, 8 + size + 1]
    lengths += [(8 + size + len(content)) // 2, len(content) - 4, len(content) - 1]
    for length in lengths:
        saved.write_bytes(content[:length])
        assert_refused(saved)


def test_bytes_behind_the_end_are_noticed(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes() + b"\0")
    assert_refused(saved)


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a", "b")
    torch.save({"a": torch.zeros(3)}, tmp_path / "a.pt")
    (tmp_path / "a.json").write_text("{}")
    save_file({"a": torch.zeros(3)}, tmp_path / "a.safetensors")
    for path in sorted(tmp_path.iterdir()):
        assert_refused(path)
    assert_refused(tmp_path / "nowhere.safetensors", "there is no")


def wider(weights: dict[str, Tensor]) -> None:
    name = next(iter(weights))
    weights[name] = torch.cat([weights[name], weights[name]])


def transposed(weights: dict[str, Tensor]) -> None:
    name = next(name for name, w in weights.items() if w.ndim > 1 and w.shape[0] != w.shape[1])
    weights[name] = weights[name].transpose(0, 1).contiguous()


@pytest.mark.parametrize(
    "change",
    [
        wider,
        transposed,
        lambda weights: weights.popitem(),
        lambda weights: weights.update(extra=torch.zeros(1)),
        lambda weights: weights.clear(),
        lambda weights: weights.update({k: v.double() for k, v in weights.items()}),
        lambda weights: weights.update({k: v.long() for k, v in weights.items()}),
    ],
    ids=["wider", "transposed", "missing", "extra", "none", "double", "integer"],
)
def test_weights_of_another_architecture_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Tensor]], object]
) -> None:
    weights = tiny.network().state_dict()
    change(weights)
    path = tmp_path / "model.safetensors"
    save_model(path, tiny.description(), weights)
    assert_refused(path, "do not fit its architecture")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    weights = tiny.network().state_dict()
    for name in (next(iter(weights)), list(weights)[-1]):
        broken = {key: tensor.clone() for key, tensor in weights.items()}
        broken[name].view(-1)[-1] = value
        path = tmp_path / "model.safetensors"
        save_model(path, tiny.description(), broken)
        assert_refused(path, "not all finite")


DEMANDING: dict[str, Change] = {
    "other size": lambda d: d["architecture"].update(image_height=16, num_classes=4),
    "huge": lambda d: d["architecture"].update(
        image_height=4096, image_width=4096, channels=[4096] * 8, blocks=[16] * 8
    ),
    "many classes": lambda d: d["architecture"].update(num_classes=100_000),
    "endless schedule": lambda d: d["schedule"].update(num_timesteps=10**9),
    "no schedule": lambda d: d.pop("schedule"),
    "schedule of another name": lambda d: d["schedule"].update(name="quadratic"),
    "betas beyond one": lambda d: d["schedule"].update(beta_end=2.0),
    "beta beyond float": lambda d: d["schedule"].update(beta_end=10**400),
    "other prediction": lambda d: d.update(prediction_type="score"),
    "class names that are numbers": lambda d: d.update(class_names=[0, 1, 2]),
    "too few class names": lambda d: d.update(class_names=["one"]),
    "training that is a list": lambda d: d.update(training=[]),
    "unknown field": lambda d: d.update(surprise=1),
    "sampler of another name": lambda d: d["sampling"].update(sampler="euler"),
    "no steps": lambda d: d["sampling"].update(steps=0),
    "more steps than timesteps": lambda d: d["sampling"].update(steps=21),
    "guidance after the last timestep": lambda d: d["sampling"].update(guidance_interval=[3, 20]),
    "betas that are nothing": lambda d: d["schedule"].update(beta_start=1e-17, beta_end=1e-17),
    "a class name that is no text": lambda d: d.update(class_names=["\ud800", "b", "c"]),
    "guidance that is text": lambda d: d["sampling"].update(guidance_scale="1"),
    "architecture that is null": lambda d: d.update(architecture=None),
}


def test_a_tensor_of_a_model_is_no_larger_than_its_file(saved: Path) -> None:
    """So that the next test measures something: a good model does come into memory."""
    with LargestTensor() as largest:
        load_model(saved)
    assert 0 < largest.nbytes < saved.stat().st_size


@pytest.mark.parametrize("name", DEMANDING)
def test_hostile_descriptions_are_refused_before_anything_is_allocated(
    saved: Path, name: str
) -> None:
    change_document(saved, DEMANDING[name])
    with LargestTensor() as largest:
        assert_refused(saved)
    # The frequencies of the embedding, in float64, are a constant that no file holds.
    assert largest.nbytes <= 8 * (tiny.config().embedding_dim // 2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_description_is_taken_or_refused(saved: Path, data: st.DataObject) -> None:
    """Anything at all in the place of any one value: a model comes of it, or a DiffcliError."""
    header, body = split(saved)
    original = header["__metadata__"][METADATA_KEY]
    document = json.loads(original)
    parents = [document, document["architecture"], document["schedule"], document["sampling"]]
    parent = data.draw(st.sampled_from(parents))
    parent[data.draw(st.sampled_from(sorted(parent)) | st.text(max_size=4))] = data.draw(JSON)
    header["__metadata__"][METADATA_KEY] = json.dumps(document)
    path = saved.with_name("changed.safetensors")
    join(path, header, body)
    with suppress(DiffcliError):
        load_model(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": "no", "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [[1]], "data_offsets": [0, 4]},
        {},
        [],
        None,
        3,
    ],
    ids=str,
)
def test_hostile_tensor_entries_are_refused(saved: Path, entry: object) -> None:
    header, body = split(saved)
    header[next(name for name in header if name != "__metadata__")] = entry
    join(saved, header, body)
    assert_refused(saved)


def test_hostile_offsets_are_refused(saved: Path) -> None:
    original, body = split(saved)
    name = next(name for name in original if name != "__metadata__")
    for offsets in ([0, 1 << 50], [-4, 0], [8, 4], [0], "no", None):
        header = json.loads(json.dumps(original))
        header[name]["data_offsets"] = offsets
        join(saved, header, body)
        assert_refused(saved)


def test_a_failed_write_leaves_the_old_model(saved: Path) -> None:
    before = saved.read_bytes()
    missing = saved.parent / "nowhere" / "model.safetensors"
    with pytest.raises(OSError):  # noqa: PT011 - the platforms differ in the rest
        save_model(missing, tiny.description(), tiny.network().state_dict())
    description = replace(tiny.description(), training={"loss": float("nan")})
    with pytest.raises(ValueError, match="JSON compliant"):
        save_model(saved, description, tiny.network().state_dict())
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
