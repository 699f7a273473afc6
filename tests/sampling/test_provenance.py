"""What a picture says of itself to other programs."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from diffcli.core.parameters import SamplingSettings
from diffcli.files.checkpoint import fingerprint, save_model
from diffcli.files.pictures import encode_png
from diffcli.sampling import provenance
from diffcli.sampling.model import Model
from diffcli.sampling.provenance import (
    ModelIdentity,
    Provenance,
    find_recorded_model,
    load_identified,
    read_provenance,
)
from diffcli.sampling.request import Interpolation, SampleRequest
from tests import tiny

MODEL = ModelIdentity("digits.safetensors", "0123456789abcdef", "none", "v_prediction", tiny.COSINE)
ONE = SampleRequest((1,), 1, 7, SamplingSettings("dpmpp", 4))
OTHER_SAMPLERS = {"variance": "beta", "eta": 0.5}
"""Settings that ``dpmpp`` does not have."""


def parameters(
    title: str, more: str = "", scale: str = "1", steps: int = 4, label: str = "one"
) -> str:
    return (
        f"label {label}\nSteps: {steps}, Sampler: {title}, CFG scale: {scale}, Seed: 7, "
        f"Model hash: 0123456789, Model: digits, Version: diffcli 1.2.3{more}"
    )


PLAIN = parameters("DPM++ 2M")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, PLAIN),
        (OTHER_SAMPLERS, PLAIN),
        ({"steps": 12, "guidance_scale": 1.5}, parameters("DPM++ 2M", "", "1.5", 12)),
        (
            {"guidance_scale": 2.0, "guidance_interval": (3, 15)},
            parameters("DPM++ 2M", ", CFG interval: 3-15", "2"),
        ),
        ({"spacing": 1.5}, parameters("DPM++ 2M", ", Spacing: 1.5")),
        ({"sampler": "ddim"}, parameters("DDIM")),
        ({"sampler": "ddpm", "variance": "beta"}, parameters("DDPM", ", Variance: beta")),
        ({"sampler": "ddpm"}, parameters("DDPM", ", Variance: beta-tilde")),
        ({"sampler": "dpmpp-sde"}, parameters("DPM++ 2M SDE")),
        ({"sampler": "dpmpp-sde", "eta": 0.0}, parameters("DPM++ 2M SDE", ", Eta: 0")),
        ({"sampler": "consistency"}, parameters("LCM")),
    ],
)
def test_settings_are_told_where_the_sampler_has_them(
    settings: dict[str, Any], expected: str
) -> None:
    request = replace(ONE, settings=replace(ONE.settings, **settings))
    told = Provenance(MODEL, ("one",), request, "picture", diffcli="1.2.3")
    assert told.parameters() == expected


@pytest.mark.parametrize(
    ("names", "request_fields", "expected"),
    [
        (("one",), {"strength": 0.25}, parameters("DPM++ 2M", ", Denoising strength: 0.25")),
        (
            ("one",),
            {"strength": 1.0, "masked": True},
            parameters("DPM++ 2M", ", Denoising strength: 1"),
        ),
        (
            ("one", "two\nlines"),
            {"labels": (1, 2), "per_label": 3},
            parameters("DPM++ 2M", ", Per label: 3", label="one, two lines"),
        ),
        (
            ("one", "two"),
            {"labels": (1, 2), "weights": (0.5, -1.0)},
            parameters("DPM++ 2M", label="one:0.5, two:-1"),
        ),
        (
            ("one", "two"),
            {"labels": (1, 2), "per_label": 5, "interpolation": Interpolation(9)},
            parameters(
                "DPM++ 2M", ", Per label: 5, Interpolation: 0-1 to seed 9", label="one, two"
            ),
        ),
        (
            ("one", "two"),
            {"labels": (1, 2), "interpolation": Interpolation(9, 0.25, 0.5)},
            parameters("DPM++ 2M", ", Interpolation: 0.25-0.5 to seed 9", label="one, two"),
        ),
    ],
)
def test_so_is_what_else_was_asked_for(
    names: tuple[str, ...], request_fields: dict[str, Any], expected: str
) -> None:
    told = Provenance(MODEL, names, replace(ONE, **request_fields), "grid", diffcli="1.2.3")
    assert told.parameters() == expected


def test_all_of_it_is_in_one_order() -> None:
    settings = SamplingSettings("ddpm", 4, 2.0, (3, 15), spacing=1.5)
    request = replace(ONE, settings=settings, strength=0.5, per_label=2)
    told = Provenance(MODEL, ("one",), request, "grid", diffcli="1.2.3")
    more = (
        ", CFG interval: 3-15, Spacing: 1.5, Variance: beta-tilde, Denoising strength: 0.5, "
        "Per label: 2"
    )
    assert told.parameters() == parameters("DDPM", more, "2")


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ("mnist", "mnist"),
        ("/home/bob/cats", "cats"),
        ("/home/bob/cats/", "cats"),
        (r"C:\Users\bob\cats", "cats"),
        (".", "pictures"),
        ("../..", "pictures"),
        ("C:\\", "pictures"),
    ],
)
def test_of_the_data_set_only_the_name_is_told(dataset: str, told: str, tmp_path: Path) -> None:
    description = replace(tiny.description(), dataset=dataset)
    (tmp_path / "m.safetensors").write_bytes(b"weights")
    identity = ModelIdentity.of(tmp_path / "m.safetensors", description)
    assert identity == ModelIdentity(
        "m.safetensors",
        hashlib.sha256(b"weights").hexdigest(),
        told,
        description.prediction_type,
        description.schedule,
    )


def test_a_model_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, tiny.description(), tiny.network(seed=0).state_dict())
    load = Model.load

    def load_and_replace(path: Path, device: torch.device | str) -> Model:
        monkeypatch.setattr(Model, "load", load)
        model = load(path, device)
        save_model(path, tiny.description(), tiny.network(seed=1).state_dict())
        return model

    monkeypatch.setattr(Model, "load", load_and_replace)
    model, identity = load_identified(path, "cpu")
    assert identity.sha256 == fingerprint(path)
    expected = tiny.network(seed=1).state_dict()
    for name, weight in model.denoiser.network.state_dict().items():
        assert torch.equal(weight, expected[name])


def test_a_path_in_an_old_picture_is_still_read(tmp_path: Path) -> None:
    old = Provenance(replace(MODEL, dataset="/home/bob/cats"), ("one",), ONE, "picture")
    picture = Image.new("L", (8, 8))
    (tmp_path / "old.png").write_bytes(encode_png(picture, old.embedded()))
    assert read_provenance(tmp_path / "old.png") == old


def test_the_model_of_a_picture_is_found_beside_one_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "c"):
        Path("runs", name).mkdir(parents=True)
        Path("runs", name, "model.safetensors").write_text(name)

    def read(path: Path) -> str:
        if path.parent.name == "b":
            raise PermissionError(13, "Permission denied")
        return fingerprint(path)

    monkeypatch.setattr(provenance, "fingerprint", read)
    for name, found in (("a", True), ("b", False), ("c", True)):
        model = replace(MODEL, sha256=hashlib.sha256(name.encode()).hexdigest())
        expected = Path("runs", name, "model.safetensors")
        assert find_recorded_model(model) == (expected if found else None)
