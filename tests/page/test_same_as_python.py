"""A page computes what the package computes: every layer, the network, samplers, noise."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from diffcli.core.denoiser import PREDICTION_TYPES, Denoiser
from diffcli.core.embedding import SinusoidalPositionEmbedding
from diffcli.core.generate import Init, generate
from diffcli.core.likelihood import VariationalBound
from diffcli.core.parameters import (
    PredictionType,
    SamplerName,
    SamplingSettings,
    ScheduleConfig,
    ScheduleName,
    UNetConfig,
)
from diffcli.core.samplers import SAMPLERS
from diffcli.core.schedule import SCHEDULES, NoiseSchedule, step_plan
from diffcli.core.unet import ConditionalUNet
from diffcli.data.images import to_model_range, to_pixels
from diffcli.data.mnist import load_mnist
from diffcli.files.checkpoint import ModelDescription, load_model
from diffcli.files.locations import find_model
from diffcli.page.build import build_page
from tests import tiny
from tests.page.scripts import compute

pytestmark = pytest.mark.process


def features(x: Tensor) -> dict[str, Any]:
    channels, height, width = x.shape
    data = x.flatten().tolist()
    return {"data": data, "channels": channels, "height": height, "width": width}


def tensor(x: dict[str, Any]) -> Tensor:
    return torch.tensor(x["data"]).view(x["channels"], x["height"], x["width"])


def close(found: Any, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64), expected.double(), atol=atol, rtol=1e-5
    )


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31, 2**32 - 1])
def test_noise_is_that_of_torch(seed: int) -> None:
    sizes = [16, 17, 784, 31, 3072, 16]
    generator = torch.Generator().manual_seed(seed)
    (found,) = compute(["randn", seed, sizes])
    for numbers, size in zip(found, sizes, strict=True):
        close(numbers, torch.randn(size, generator=generator), atol=1e-6)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 1)])
@pytest.mark.parametrize(("height", "width"), [(7, 7), (5, 6), (4, 12)])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 4), (16, 3), (5, 32)])
def test_convolution(
    size: int, stride: int, height: int, width: int, inputs: int, outputs: int
) -> None:
    torch.manual_seed(size + height + inputs)
    x, bias = torch.randn(inputs, height, width), torch.randn(outputs)
    weight = torch.randn(outputs, inputs, size, size)
    expected = F.conv2d(x[None], weight, bias, stride, padding=size // 2)[0]
    call = ["convolve", features(x), weight.flatten().tolist(), bias.tolist(), size, stride]
    (found,) = compute(call)
    torch.testing.assert_close(tensor(found), expected, atol=1e-4, rtol=1e-5)


def test_the_other_layers() -> None:
    torch.manual_seed(1)
    x, scale, shift = 3 * torch.randn(32, 5, 6) + 2, torch.randn(32), torch.randn(32)
    vector, weight, bias = torch.randn(12), torch.randn(7, 12), torch.randn(7)
    norm, silu, linear, unshuffled, shuffled, early, late = compute(
        ["groupNorm", features(x), scale.tolist(), shift.tolist()],
        ["silu", vector.tolist()],
        ["linear", vector.tolist(), weight.flatten().tolist(), bias.tolist()],
        ["unshuffle", features(x[:, :4]), 2],
        ["shuffle", features(x), 4],
        ["sinusoids", 3, 64],
        ["sinusoids", 999, 64],
    )
    torch.testing.assert_close(tensor(norm), F.group_norm(x[None], 2, scale, shift)[0])
    close(silu, F.silu(vector))
    close(linear, F.linear(vector, weight, bias))
    torch.testing.assert_close(tensor(unshuffled), F.pixel_unshuffle(x[:, :4], 2))
    torch.testing.assert_close(tensor(shuffled), F.pixel_shuffle(x, 4))
    expected = SinusoidalPositionEmbedding(64)(torch.tensor([3, 999]))
    close([early, late], expected, atol=1e-4)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: ScheduleName) -> None:
    for steps in (1, 20, 300):
        expected = NoiseSchedule.from_config(ScheduleConfig(name, steps)).alphas_cumprod
        (found,) = compute(["schedule", name, steps])
        torch.testing.assert_close(
            torch.tensor(found, dtype=torch.float64), expected, rtol=1e-9, atol=1e-15
        )


def test_plans_of_steps() -> None:
    cases = [
        (total, steps, spacing)
        for total in (1, 7, 300)
        for steps in (1, 2, 5, 16, 300)
        for spacing in (0.5, 1, 1.5, 3)
        if steps <= total
    ]
    found = compute(*(["stepPlan", *case] for case in cases))
    for plan, case in zip(found, cases, strict=True):
        assert [tuple(pair) for pair in plan] == step_plan(*case)


def rounded(network: ConditionalUNet) -> ConditionalUNet:
    """The same with the weights that it has on a page."""
    for param in network.parameters():
        scale = param.data.double().abs().max() / (2**15 - 1)
        param.data = ((param.data / scale).round() * scale).float()
    return network


def page_of(
    architecture: UNetConfig,
    schedule: ScheduleConfig,
    prediction_type: PredictionType = "v_prediction",
) -> tuple[bytes, Denoiser]:
    """A page, and the model of random weights in it."""
    description = ModelDescription(
        architecture=architecture,
        schedule=schedule,
        prediction_type=prediction_type,
        sampling=SamplingSettings(),
        class_names=tuple(str(i) for i in range(architecture.num_classes)),
        dataset="none",
    )
    denoiser = Denoiser(
        rounded(tiny.network(architecture)), NoiseSchedule.from_config(schedule), prediction_type
    )
    return build_page(description, denoiser), denoiser


@pytest.fixture(scope="module")
def colour() -> tuple[bytes, Denoiser]:
    """Three levels, colours, and sides that differ."""
    architecture = UNetConfig(3, 16, 24, 3, 2, (16, 32, 32), (1, 2, 1), 32)
    return page_of(architecture, ScheduleConfig("rectified-flow", 50))


@pytest.fixture(scope="module")
def mnist() -> tuple[bytes, Denoiser]:
    description, denoiser = load_model(find_model(Path("mnist")))
    page = build_page(description, denoiser)
    rounded(denoiser.network)
    return page, denoiser


@pytest.fixture(scope="module")
def detailed() -> tuple[bytes, Denoiser]:
    """A level of single pixels."""
    architecture = UNetConfig(1, 8, 12, 3, 1, (16, 16, 32), (1, 1, 1), 32)
    return page_of(architecture, ScheduleConfig("cosine", 50))


@pytest.mark.parametrize("name", ["colour", "detailed", "mnist"])
def test_the_network(name: str, request: pytest.FixtureRequest) -> None:
    page, denoiser = request.getfixturevalue(name)
    network = denoiser.network
    shape = network.config.image_shape
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    cases = [(0, 0), (17, 2), (49, network.no_label)]
    found = compute(*(["predict", x.flatten().tolist(), *case] for case in cases), page=page)
    for prediction, (t, label) in zip(found, cases, strict=True):
        with torch.inference_mode():
            expected = network(x[None], torch.tensor([t]), torch.tensor([label]))
        close(prediction, expected.flatten(), atol=1e-4)


def drawn(
    page: bytes, denoiser: Denoiser, settings: SamplingSettings, init: Init | None = None
) -> tuple[list[Any], list[Any]]:
    """The steps of a picture, of the page and of the package."""
    label, seed, start = 2, 7, denoiser.schedule.num_timesteps // 2
    call: dict[str, Any] = {
        "label": label,
        "seed": seed,
        "sampler": settings.sampler,
        "steps": settings.steps,
        "guidance": settings.guidance_scale,
        "interval": settings.guidance_interval,
        "spacing": settings.spacing,
        "variance": settings.variance,
        "eta": settings.eta,
    }
    if init:
        call |= {"init": init.images.flatten().tolist(), "start": start}
    (found,) = compute(["generate", call], page=page)
    strength = start / denoiser.schedule.num_timesteps
    expected = generate(denoiser, torch.tensor([label]), [seed], settings, init, strength)
    return found, list(expected)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    "others",
    [
        {},
        {"guidance_scale": 2.5, "spacing": 1.5, "variance": "beta"},
        {"guidance_scale": 3.0, "guidance_interval": (10, 30)},
        {"guidance_scale": 0.0, "eta": 0.6},
        {"eta": 0.0},
    ],
)
def test_every_step_of_every_sampler(
    colour: tuple[bytes, Denoiser], sampler: SamplerName, others: dict[str, Any]
) -> None:
    page, denoiser = colour
    found, expected = drawn(page, denoiser, SamplingSettings(sampler, 6, **others))
    for step, other in zip(found, expected, strict=True):
        assert (step["t"], step["s"]) == (other.t, other.s)
        close(step["x0"], other.x0.flatten(), atol=1e-4)
        close(step["x"], other.x.flatten(), atol=1e-4)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_every_prediction_type(prediction_type: PredictionType) -> None:
    page, denoiser = page_of(tiny.config(), tiny.COSINE, prediction_type)
    found, expected = drawn(page, denoiser, SamplingSettings("ddim", 4, guidance_scale=1.5))
    for step, other in zip(found, expected, strict=True):
        close(step["x0"], other.x0.flatten(), atol=1e-4)


@pytest.mark.long
def test_a_thousand_timesteps() -> None:
    """The noise at the first one is so little that float32 would round some of it off."""
    page, denoiser = page_of(tiny.config(), ScheduleConfig("rectified-flow", 1000))
    for settings in (SamplingSettings("ddpm", 1000), SamplingSettings("ddpm", 20, spacing=3)):
        found, expected = drawn(page, denoiser, settings)
        close(found[-1]["x"], expected[-1].x.flatten(), atol=1e-3)


def test_starting_from_a_picture(colour: tuple[bytes, Denoiser]) -> None:
    page, denoiser = colour
    images = torch.linspace(-1, 1, 3 * 16 * 24).view(1, 3, 16, 24)
    found, expected = drawn(page, denoiser, SamplingSettings("dpmpp-sde", 4), Init(images))
    assert [step["t"] for step in found] == [other.t for other in expected]
    close(found[-1]["x"], expected[-1].x.flatten(), atol=1e-4)


@pytest.mark.parametrize("name", ["mnist", "mnist-2step"])
def test_the_shipped_digits_of_a_seed(name: str) -> None:
    """As ``diffcli sample`` draws them, although the weights on the page have 16 bits."""
    description, denoiser = load_model(find_model(Path(name)))
    page = build_page(description, denoiser)
    found, expected = drawn(page, denoiser, description.sampling)
    pixels = to_pixels(torch.tensor(found[-1]["x"]).view(1, 1, 28, 28))
    difference = pixels.int() - to_pixels(expected[-1].x).int()
    assert difference.abs().max() <= 2


@pytest.mark.long
def test_the_labels_of_real_digits_are_found(mnist: tuple[bytes, Denoiser]) -> None:
    page, _ = mnist
    test = load_mnist("test").subset(torch.arange(4))
    images = to_model_range(test.images)
    calls = [["posterior", image.flatten().tolist(), 4] for image in images]
    found = torch.tensor(compute(*calls, page=page))
    assert found.argmax(1).tolist() == test.labels.tolist()
    close(found.sum(1).tolist(), torch.ones(4))


def test_labels_are_compared_at_the_same_noise_levels(mnist: tuple[bytes, Denoiser]) -> None:
    page, denoiser = mnist
    bound = VariationalBound(denoiser)
    (drawn,) = compute(["labelTimesteps", 63], page=page)
    # The weights of the bound, over how often each timestep is drawn.
    snr = denoiser.schedule.log_snr.exp()
    for t, weight in drawn:
        exact = float((snr[t - 1] - snr[t]) / 2 / bound.label_density[t])
        assert weight == pytest.approx(exact, rel=1e-4)
    timesteps = torch.tensor([t for t, _ in drawn])
    shares = timesteps.bincount(minlength=len(snr)).cumsum(0) / len(drawn)
    assert float((shares - bound.label_density.cumsum(0)).abs().max()) < 2 / len(drawn)


def test_the_best_estimate_in_the_plane() -> None:
    """Of two opposite points it is their hyperbolic tangent, times one of them."""
    alphas_cumprod, x = [0.9, 0.3], (0.4, -0.2)
    point = torch.tensor([0.6, 0.8], dtype=torch.float64)
    calls = [
        ["idealEstimate", alphas_cumprod, [point.tolist(), (-point).tolist()], t, x] for t in (0, 1)
    ]
    for found, share in zip(compute(*calls), alphas_cumprod, strict=True):
        dot = float(point @ torch.tensor(x, dtype=torch.float64))
        factor = math.tanh(math.sqrt(share) * dot / (1 - share))
        close(found, factor * point, atol=1e-6)
