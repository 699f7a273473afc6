"""The Python interface."""

import subprocess
import sys
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import diffcli
from diffcli.core.parameters import SamplerName, SamplingSettings, ScheduleConfig
from diffcli.errors import UsageError
from diffcli.files.checkpoint import save_model
from diffcli.files.pictures import save_png, to_pillow
from diffcli.sampling.model import Model
from tests import tiny


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, tiny.description(), tiny.network().state_dict())
    return path


@pytest.mark.process
def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, diffcli; print(sorted({'torch', 'PIL', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_unknown_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        attrgetter("nothing")(diffcli)


def test_load_and_sample_by_label(model_file: Path) -> None:
    model = diffcli.load(model_file)
    pictures = model.sample("zero", n=5, seed=42)
    assert (pictures.dtype, pictures.shape) == (torch.uint8, (5, 1, 8, 8))
    assert torch.equal(pictures, model.sample(0, n=5, seed=42))
    assert torch.equal(pictures, model.sample("0", n=5, seed=42))


def test_picture_i_of_seed_s_is_that_of_seed_s_plus_i(model_file: Path) -> None:
    model = diffcli.load(model_file)
    many = model.sample("all", n=4, seed=42)
    for index in range(12):
        alone = model.sample(index // 4, n=1, seed=42 + index)
        assert (many[index].int() - alone[0].int()).abs().max() <= 1


def test_labels_are_names_numbers_ranges_or_several(model_file: Path) -> None:
    model = diffcli.load(str(model_file))
    everything = model.sample(n=1, seed=0)
    assert torch.equal(everything, model.sample(["zero", 'o"ne', "zwei ü"], n=1, seed=0))
    assert torch.equal(everything, model.sample("0-2", n=1, seed=0))
    assert torch.equal(everything, model.sample([0, "1", 2], n=1, seed=0))
    assert torch.equal(everything, model.sample(np.arange(3), n=1, seed=0))
    assert torch.equal(everything, model.sample(torch.arange(3), n=1, seed=0))
    assert torch.equal(everything[2:], model.sample(np.int64(2), n=1, seed=2))


def test_pictures_between_two_begin_and_end_with_these(model_file: Path) -> None:
    model = diffcli.load(model_file)
    way = model.interpolate(["zero", "2"], n=5, seeds=(4, 9))
    assert way.shape == (5, 1, 8, 8)
    for index, label, seed in ((0, 0, 4), (4, 2, 9)):
        (end,) = model.sample(label, n=1, seed=seed)
        assert (way[index].int() - end.int()).abs().max() <= 1
    assert not torch.equal(way[1], way[0])
    assert not torch.equal(way[3], way[4])


def test_the_noise_of_a_picture_draws_it_again(model_file: Path, tmp_path: Path) -> None:
    model = diffcli.load(model_file)
    (picture,) = model.sample(1, n=1, seed=3)
    save_png(tmp_path / "one.png", to_pillow(picture))
    noise = model.invert([tmp_path / "one.png"], [1])
    same, other = (model.sample(label, n=2, seed=0, init=noise) for label in (1, 2))
    change = (same.int() - picture.int()).square().float().mean() / 127.5**2
    assert change < 1e-2
    assert (other.int() - picture.int()).square().float().mean() / 127.5**2 > 2 * change
    assert not torch.equal(other[0], other[1])


def test_the_noise_of_two_pictures_is_found_once_for_all_between(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = diffcli.load(model_file)
    ends = [tmp_path / "0.png", tmp_path / "1.png"]
    for index, path in enumerate(ends):
        save_png(path, to_pillow(model.sample(index, n=1, seed=3)[0]))
    found = model.invert(ends, [0, 1])
    evaluations: list[int] = []
    model.denoiser.network.register_forward_hook(lambda *_: evaluations.append(1))
    whole = model.interpolate([0, 1], n=8, seeds=(5, 9), init=found, steps=4)
    at_once = len(evaluations)
    # Eight batches instead of one: only the drawing is repeated.
    monkeypatch.setattr(Model, "batch_size", lambda *_: 1)
    parts = model.interpolate([0, 1], n=8, seeds=(5, 9), init=found, steps=4)
    drawing = 3 * 4  # a mixture of two labels
    assert len(evaluations) - at_once == at_once + 7 * drawing
    assert (parts.int() - whole.int()).abs().max() <= 1


def test_scores_are_of_bytes(model_file: Path) -> None:
    model = diffcli.load(model_file)
    with pytest.raises(UsageError, match=r"pictures must be uint8 \(N, 1, 8, 8\)"):
        model.score(torch.rand(2, 1, 8, 8))


def test_without_a_seed_pictures_differ(model_file: Path) -> None:
    model = diffcli.load(model_file)
    assert not torch.equal(model.sample(0, n=4), model.sample(0, n=4))


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"labels": "cat"}, "no class of the model, which has zero"),
        ({"labels": 3}, "no class of the model"),
        ({"labels": "2-1"}, "the range 2-1 runs backwards"),
        ({"labels": []}, "there must be at least one label"),
        ({"n": 0}, "at least one picture"),
        ({"seed": -1}, "seeds must be"),
        ({"steps": 21}, "^steps must be in 1 .. 20"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"guidance_scale": -1.0}, "guidance must be in"),
        ({"strength": 0.5}, "strength is how much a picture is changed, and init is none"),
        (
            {"sampler": "euler"},
            "unknown sampler 'euler'; known are ddpm, ddim, dpmpp, dpmpp-sde, consistency",
        ),
    ],
)
def test_wrong_arguments_are_errors_without_flags(
    model_file: Path, arguments: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        diffcli.load(model_file).sample(**arguments)
    assert "--" not in str(caught.value)


def test_a_batch_size_suits_the_picture_and_halves_with_guidance(model_file: Path) -> None:
    model = diffcli.load(model_file)
    plain = model.batch_size(model.settings())
    guided = model.batch_size(model.settings(guidance_scale=2.0))
    assert plain == 2 * guided > 1
    assert [
        len(d.pixels) for d in model.draw(model.request([0], plain + 3, 0, model.settings()))
    ] == [plain, 3]


GUIDED = SamplingSettings("dpmpp", 4, 1.5, (8, 15), spacing=1.2)


@pytest.fixture
def guided_model(tmp_path: Path) -> Model:
    """A model whose own guidance applies at some timesteps only."""
    path = tmp_path / "guided.safetensors"
    save_model(path, tiny.description(sampling=GUIDED), tiny.network().state_dict())
    return diffcli.load(path)


def test_an_interval_is_for_its_own_scale_only(guided_model: Model) -> None:
    assert guided_model.settings() == GUIDED
    assert guided_model.settings(steps=5) == replace(GUIDED, steps=5)
    everywhere = replace(GUIDED, guidance_scale=0, guidance_interval=None)
    assert guided_model.settings(guidance_scale=0) == everywhere
    given = replace(GUIDED, guidance_scale=2, guidance_interval=(3, 4))
    assert guided_model.settings(guidance_scale=2, guidance_interval=(3, 4)) == given
    assert guided_model.settings(steps=5, base=given) == replace(given, steps=5)
    assert guided_model.settings(guidance_scale=0, base=given) == everywhere


@pytest.mark.parametrize(
    ("timesteps", "steps"),
    [
        (20, {"dpmpp": 4, "dpmpp-sde": 16, "ddim": 16, "ddpm": 20}),
        (8, {"dpmpp": 4, "dpmpp-sde": 8, "ddim": 8, "ddpm": 8}),
    ],
)
def test_another_sampler_has_as_many_steps_as_it_needs(
    timesteps: int, steps: dict[SamplerName, int], tmp_path: Path
) -> None:
    path = tmp_path / "few.safetensors"
    made = tiny.description(ScheduleConfig("cosine", timesteps))
    save_model(path, made, tiny.network().state_dict())
    model = diffcli.load(path)
    for sampler, count in steps.items():
        assert model.settings(sampler=sampler).steps == count
        assert model.settings(sampler=sampler, steps=3).steps == 3
        # Whose sampler is the other one already, as of a picture that is drawn again.
        own = SamplingSettings(sampler, 5)
        assert model.settings(own, sampler=sampler) == model.settings(base=own) == own


def test_an_interval_without_a_timestep_of_the_model_is_refused(guided_model: Model) -> None:
    assert guided_model.settings(guidance_interval=(19, 19)).guidance_interval == (19, 19)
    for beyond in ((19, 20), (20, 30)):
        with pytest.raises(UsageError, match=r"must be in 0-19, the model's timesteps"):
            guided_model.settings(guidance_interval=beyond)


def test_without_guidance_at_all_the_label_changes_nothing(guided_model: Model) -> None:
    drawn = [guided_model.sample(label, n=2, seed=1, guidance_scale=0) for label in range(3)]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


def test_noise_is_found_and_drawn_from_without_guidance(guided_model: Model) -> None:
    assert guided_model.settings().guidance_scale != 1
    found = guided_model.inversion_settings()
    assert (found.sampler, found.guidance_scale, found.guidance_interval) == ("ddim", 1.0, None)


def test_inverted_pictures_do_not_depend_on_the_batch(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = diffcli.load(model_file)
    save_png(tmp_path / "one.png", to_pillow(model.sample(1, n=1, seed=3)[0]))
    found = model.invert([tmp_path / "one.png"], [1])
    together = model.sample(2, n=3, seed=5, init=found, steps=4)
    monkeypatch.setattr(Model, "batch_size", lambda *_: 1)
    alone = model.sample(2, n=3, seed=5, init=found, steps=4)
    assert (together.int() - alone.int()).abs().max() <= 1


def test_half_grey_of_a_mask_is_white(model_file: Path, tmp_path: Path) -> None:
    model = diffcli.load(model_file)
    save_png(tmp_path / "one.png", Image.new("L", (8, 8), 50))
    mask = Image.new("L", (8, 8), 127)
    mask.paste(128, (0, 0, 8, 3))
    save_png(tmp_path / "mask.png", mask)
    redrawn = model.init(tmp_path / "one.png", tmp_path / "mask.png").redrawn
    assert redrawn is not None
    assert redrawn[0, 0].all(dim=1).tolist() == [True] * 3 + [False] * 5
    assert int(redrawn.sum()) == 24


def test_all_classes_are_drawn_also_if_one_is_called_all(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    description = replace(tiny.description(), class_names=("a", "all", "b"))
    save_model(path, description, tiny.network().state_dict())
    model = diffcli.load(path)
    drawn = model.sample(n=1, seed=0)
    assert torch.equal(drawn, model.sample(["a", 1, "b"], n=1, seed=0))
    assert len(model.sample("all", n=1, seed=0)) == 1
