"""Where tensors are, proved without a GPU.

Fake tensors claim to be on any device and have no content.  Operations on tensors of different
devices raise, and so does reading a value, for which a GPU would have to be waited for.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from diffcli import device
from diffcli.core import likelihood
from diffcli.core.denoiser import Denoiser, Mixture
from diffcli.core.generate import Init, generate
from diffcli.core.inversion import invert
from diffcli.core.likelihood import score
from diffcli.core.misfit import misfit
from diffcli.core.parameters import AUGMENTATIONS, SamplingSettings, SeedsBetween
from diffcli.core.samplers import SAMPLERS
from diffcli.data.images import LabelledImages, to_pixels
from diffcli.data.sources import DataSet
from diffcli.evaluation.network import FeatureNetwork, FeatureNetworkConfig, read_images
from diffcli.training import run, trainer
from diffcli.training.augmentation import augment
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.objectives import Batch, DistributionMatching
from diffcli.training.run import Run
from diffcli.training.run_folder import Position, RunFolder
from diffcli.training.status import LatestLoss
from diffcli.training.trainer import Trainer
from diffcli.training.validation import Validation
from tests import tiny

# Copying a fake parameter asks for the address of its memory, which it does not have.
pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor"),
]

CUDA = torch.device("cuda:0")


class WithoutFloat64(TorchDispatchMode):
    """Refuses float64 anywhere but on the CPU, as MPS does."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and made.dtype == torch.float64:
                assert made.device.type == "cpu", f"{func} makes float64 on {made.device}"
        return result


class Reading(TorchDispatchMode):
    """Where results are read: tensors on the CPU have content, and what a device sends is ones."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        there = [leaf for leaf in given if isinstance(leaf, FakeTensor)]
        with unset_fake_temporarily() as mode:
            if not there and CUDA not in given:
                return func(*args, **kwargs)
            if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default):
                return torch.ones((), dtype=there[0].dtype).item()
        assert isinstance(mode, FakeTensorMode)
        result = func(*tree_map_only(Tensor, mode.from_tensor, args), **kwargs)
        if isinstance(result, Tensor) and result.device.type == "cpu":
            with unset_fake_temporarily():
                return torch.ones(result.shape, dtype=result.dtype)
        return result


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTensorMode]:
    """A mode in which all tensors are fake ones, and CUDA, without float64, seems to be there."""
    for module in (device, trainer):
        monkeypatch.setattr(module, "has_native_bfloat16", lambda _: False)
    # Both read values of tensors on the CPU, which have none here.
    monkeypatch.setattr(LabelledImages, "__post_init__", lambda self: None)
    monkeypatch.setattr(LabelledImages, "class_counts", (7, 7, 6))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, WithoutFloat64():
        generator = torch.Generator
        # There is no generator of CUDA without CUDA, and fake numbers need none of their own.
        monkeypatch.setattr(torch, "Generator", lambda device="cpu": generator("cpu"))
        yield mode


def move(module: nn.Module, mode: FakeTensorMode) -> None:
    """Move a real module to fake CUDA, which ``to`` cannot do."""
    for part in module.modules():
        for name, param in part._parameters.items():
            if param is not None:
                moved = mode.from_tensor(param.detach()).to(CUDA)
                part._parameters[name] = nn.Parameter(moved, param.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = mode.from_tensor(buffer).to(CUDA)


@pytest.fixture
def denoiser() -> Denoiser:
    """Made of real tensors, on the CPU."""
    return tiny.description().build()


@pytest.fixture
def data() -> LabelledImages:
    return LabelledImages(torch.zeros(20, 1, 8, 8).byte(), torch.arange(20) % 3, ("a", "b", "c"))


@pytest.fixture
def training(
    denoiser: Denoiser,
    data: LabelledImages,
    fake: FakeTensorMode,
    monkeypatch: pytest.MonkeyPatch,
) -> Trainer:
    """A trainer on CUDA; gradients are zero."""
    move(denoiser, fake)
    made = Trainer(denoiser, data, RunConfig(flip=True), Distributed())

    def backward(loss: torch.Tensor) -> None:
        # Autograd itself asks the driver of CUDA for its threads.
        assert loss.requires_grad
        for param in made.denoiser.parameters():
            param.grad = torch.zeros_like(param)

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    return made


def test_the_fake_device_refuses_what_a_real_one_would(fake: FakeTensorMode) -> None:
    """Otherwise the tests below would prove nothing."""
    there = torch.ones(3, device=CUDA)
    assert isinstance(there, FakeTensor)
    with pytest.raises(Exception, match="device"):
        there + torch.ones(3)
    with pytest.raises(DataDependentOutputException):
        float(there.sum())
    assert there.cpu().double().dtype == torch.float64
    with pytest.raises(AssertionError, match="float64 on cuda:0"):
        there.double()


def test_a_training_step(training: Trainer) -> None:
    loss = training.step(0.0)
    assert loss.device == CUDA
    assert all(tensor.device == CUDA for tensor in training.state().values())


def test_augmentation(fake: FakeTensorMode) -> None:
    images, drawn = torch.zeros(4, 1, 8, 8, device=CUDA), torch.rand(4, AUGMENTATIONS, device=CUDA)
    augmented, code = augment(images, 0.5, drawn, drawn)
    assert (augmented.device, augmented.shape) == (CUDA, images.shape)
    assert (code.device, code.shape) == (CUDA, drawn.shape)


def test_the_state_is_restored_from_the_cpu(training: Trainer) -> None:
    saved = {name: tensor.to("cpu") for name, tensor in training.state().items()}
    training.load_state(saved, 7)
    assert training.steps_done == 7
    assert all(tensor.device == CUDA for tensor in training.state().values())
    assert training.step(0.5).device == CUDA


def test_a_resumed_run_adds_its_losses_to_those_of_the_steps_that_follow(
    training: Trainer, data: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {name: tensor.to("cpu") for name, tensor in training.state().items()}
    position = Position(3, 1.0, (0.5, 0.25), None)
    monkeypatch.setattr(run, "make_trainer", lambda *_: training)
    monkeypatch.setattr(RunFolder, "load_state", lambda *_: (tensors, position))
    config = RunConfig(max_steps=50, architecture=tiny.config())
    resumed = Run.open(RunFolder(tmp_path), config, DataSet(data, data), CUDA, Distributed())
    resumed._losses.append(resumed.trainer.step(0.1))
    assert [loss.device for loss in resumed._losses] == [CUDA] * 3
    with pytest.raises(DataDependentOutputException):  # the mean is computed, and then read
        resumed._record()


def test_validation(training: Trainer, data: LabelledImages) -> None:
    averaged = Denoiser(training.ema.network, training.denoiser.schedule, "v_prediction")
    losses = Validation(data, 20, CUDA).losses(averaged)
    assert (losses.device, losses.shape) == (CUDA, (4,))


@pytest.mark.parametrize("init", ["nothing", "picture", "part of a picture"])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0])
def test_drawing_never_waits_for_the_device(
    denoiser: Denoiser, fake: FakeTensorMode, sampler: str, guidance: float, init: str
) -> None:
    move(denoiser, fake)
    settings = SamplingSettings(sampler, 4, guidance, (5, 15))  # type: ignore[arg-type]
    picture, mask = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8, dtype=torch.bool)
    start = None if init == "nothing" else Init(picture, mask if "part" in init else None)
    steps = list(generate(denoiser, torch.tensor([0, 2]), [1, 2], settings, start, 0.6))
    assert [step.x.device for step in steps] == [CUDA] * 4
    assert to_pixels(steps[-1].x).cpu().shape == (2, 1, 8, 8)


@pytest.mark.parametrize("inverted", [False, True])
def test_interpolating(denoiser: Denoiser, fake: FakeTensorMode, inverted: bool) -> None:
    move(denoiser, fake)
    settings, labels = SamplingSettings("ddim", 4, 2.0), torch.tensor([[0, 2]] * 3)
    seeds = [SeedsBetween(1, 2, share) for share in (0.0, 0.4, 1.0)]
    noise = None
    if inverted:
        images = torch.zeros(3, 1, 8, 8)
        noise = invert(denoiser, images, labels[:, 0], [1, 2, 3], settings)
    mixture = Mixture(labels, torch.tensor([[1.0, 0.0], [0.6, 0.4], [0.0, 1.0]]))
    steps = list(generate(denoiser, mixture, seeds, settings, noise=noise))
    assert [step.x.device for step in steps] == [CUDA] * 4


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("step", [0, 4], ids=["critic", "student"])
def test_distillation(denoiser: Denoiser, fake: FakeTensorMode, step: int, guidance: float) -> None:
    move(denoiser, fake)
    settings = SamplingSettings(guidance_scale=guidance, guidance_interval=(5, 15))
    matching = DistributionMatching(denoiser, denoiser, settings, 2)
    x0, t = torch.zeros(6, 1, 8, 8, device=CUDA), torch.arange(6, device=CUDA) * 3
    batch = Batch(x0, t, t % 3, None, lambda: torch.randn(x0.shape, device=CUDA))
    losses = matching(denoiser, batch, step)
    assert (losses.device, losses.shape, losses.dtype) == (CUDA, (6,), torch.float32)


def test_scores_and_misfits(
    denoiser: Denoiser, fake: FakeTensorMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likelihood, "_ROUNDS", 2)  # all of them are alike
    move(denoiser, fake)
    with Reading():
        images, labels = torch.zeros(3, 1, 8, 8), torch.arange(3)
        found = score(denoiser, images, batch_size=8)
        shapes = [tuple(part.shape) for part in (*found, misfit(denoiser, images, labels))]
        assert shapes == [(3,), (3,), (3, 3), (3,)]
        assert all(part.isfinite().all() for part in found)


@pytest.fixture
def features() -> FeatureNetwork:
    """Made of real tensors, on the CPU."""
    return FeatureNetwork(FeatureNetworkConfig("residual", 1, 3, (16, 16)))


def test_features(features: FeatureNetwork, fake: FakeTensorMode) -> None:
    move(features, fake)
    found = read_images(features, torch.zeros(10, 1, 8, 8).byte())
    assert found.features.shape == (10, 16)
    assert found.features.device == found.logits.device == torch.device("cpu")


def test_the_latest_loss_is_read_only_when_the_device_has_computed_it(
    fake: FakeTensorMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Event:
        def __init__(self, device: torch.device) -> None:
            assert device == CUDA
            self.ready = False
            events.append(self)

        def record(self) -> None:
            pass

        def query(self) -> bool:
            return self.ready

    events: list[Event] = []
    monkeypatch.setattr(torch, "Event", Event)
    latest = LatestLoss()
    for _ in range(3):
        latest.offer(torch.ones((), device=CUDA))
    assert latest.value is None
    assert len(events) == 1
    events[0].ready = True
    with pytest.raises(DataDependentOutputException):
        latest.offer(torch.ones((), device=CUDA))
