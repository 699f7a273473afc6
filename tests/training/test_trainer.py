import math
import shutil
import sysconfig
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from diffcli.core.denoiser import Denoiser
from diffcli.core.generate import generate
from diffcli.data.images import LabelledImages
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.objectives import Batch, DiffusionLoss
from diffcli.training.optimizers import Muon
from diffcli.training.order import batch_index, derived_seed
from diffcli.training.recipe import RECIPES, Recipe, RecipeName
from diffcli.training.timesteps import TimestepDensity
from diffcli.training.trainer import Trainer
from tests import tiny
from tests.training.runs import create, distilling_config

DARK, BRIGHT = 40, 200

# What torch compiles for the CPU is C++ that includes Python's headers.
compiling = pytest.mark.skipif(
    shutil.which("g++") is None or not Path(sysconfig.get_path("include"), "Python.h").is_file(),
    reason="there is no compiler here, or nothing to compile with",
)


def flat_pictures(count: int = 64) -> LabelledImages:
    """Three classes, though the last has no pictures: dark ones, and bright ones."""
    labels = torch.arange(count) % 2
    values = torch.where(labels == 0, DARK, BRIGHT).to(torch.uint8)
    images = values.view(-1, 1, 1, 1).expand(-1, 1, 8, 8).clone()
    return LabelledImages(images, labels, ("dark", "bright", "none"))


def make_trainer(
    recipe: Recipe | None = None,
    data: LabelledImages | None = None,
    batch_size: int = 16,
    seed: int = 0,
    flip: bool = False,
) -> Trainer:
    recipe = replace(recipe or RECIPES["fast"], batch_size=batch_size)
    torch.manual_seed(0)
    denoiser = tiny.description(recipe.schedule, recipe.prediction_type).build()
    config = RunConfig(recipe=recipe, seed=seed, flip=flip)
    return Trainer(denoiser, data or flat_pictures(), config, Distributed())


def weights(trainer: Trainer) -> Tensor:
    return torch.cat([param.detach().flatten() for param in trainer.denoiser.network.parameters()])


@pytest.mark.parametrize("native", [False, True])
def test_muon_uses_bfloat16_if_the_device_is_fast_at_it(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffcli.training.trainer.has_native_bfloat16", lambda _: native)
    trainer = make_trainer()
    muon = next(o for o in trainer.optimizers if isinstance(o, Muon))
    assert [group["bfloat16"] for group in muon.param_groups] == [native]


@pytest.mark.process
@compiling
def test_a_compiled_network_learns_the_same() -> None:
    plain, compiled, another = make_trainer(), make_trainer(), make_trainer()
    before = counters["stats"]["unique_graphs"]
    compiled.compile()
    assert counters["stats"]["unique_graphs"] == before + 1
    assert torch.equal(weights(compiled), weights(plain))  # compiling is no step
    another.compile()
    for _ in range(3):
        expected = float(plain.step(0.0))
        for trainer in (compiled, another):
            assert float(trainer.step(0.0)) == pytest.approx(expected, rel=1e-3)
    assert counters["stats"]["unique_graphs"] == before + 1  # one serves all of its kind


@pytest.mark.process
@compiling
def test_compiling_leaves_no_gradients(tmp_path: Path) -> None:
    trainer = create(tmp_path / "run", distilling_config()).trainer
    trainer.compile()
    params = [param for optimizer in trainer.optimizers for param in _params(optimizer)]
    assert len(params) > len(list(trainer.denoiser.network.parameters()))
    assert all(param.grad is None for param in params)


def _params(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [param for group in optimizer.param_groups for param in group["params"]]


class Recorder:
    """Records the inputs of a trainer's network."""

    def __init__(self, trainer: Trainer) -> None:
        self.x: list[Tensor] = []
        self.t: list[Tensor] = []
        self.labels: list[Tensor] = []
        trainer.denoiser.network.register_forward_pre_hook(self._record)

    def _record(self, network: nn.Module, arguments: tuple[Tensor, Tensor, Tensor]) -> None:
        for kept, argument in zip((self.x, self.t, self.labels), arguments[:3], strict=True):
            kept.append(argument.clone())


@pytest.mark.parametrize(("batch_size", "count"), [(4, 12), (5, 12), (12, 12), (30, 12), (7, 1)])
def test_every_epoch_shows_every_image_once(batch_size: int, count: int) -> None:
    steps = math.ceil(5 * count / batch_size)
    seen = torch.cat(
        [batch_index(3, step * batch_size, batch_size, count) for step in range(steps)]
    )
    epochs = seen[: 5 * count].view(5, count)
    assert torch.equal(epochs.sort(dim=1).values, torch.arange(count).expand(5, -1))
    if count > 1:
        assert len({tuple(epoch.tolist()) for epoch in epochs}) > 1


def test_the_order_depends_on_the_seed_and_on_nothing_else() -> None:
    first = batch_index(1, 112, 16, 1000)
    batch_index(2, 0, 16, 1000)
    torch.manual_seed(5)
    assert torch.equal(batch_index(1, 112, 16, 1000), first)
    assert not torch.equal(batch_index(2, 112, 16, 1000), first)


def test_derived_seeds_differ_and_stay() -> None:
    assert derived_seed(0, "step", 1) == derived_seed(0, "step", 1)
    seeds = {derived_seed(seed, name, step) for seed in (0, 1) for name in "ab" for step in (0, 1)}
    assert len(seeds) == 8
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize("name", ["fast", "ddpm"])
def test_the_same_seed_is_the_same_training_bit_for_bit(name: RecipeName) -> None:
    first, second, other = (make_trainer(RECIPES[name], seed=seed) for seed in (4, 4, 5))
    losses: list[list[float]] = []
    for trainer in (first, second, other):
        torch.manual_seed(int(torch.rand(()) * 1000))
        losses.append([float(trainer.step(0.0)) for _ in range(4)])
    assert losses[0] == losses[1] != losses[2]
    assert torch.equal(weights(first), weights(second))


def test_noise_and_timesteps_are_other_ones_with_another_seed_and_in_another_step() -> None:
    picture = flat_pictures(1)  # so that the order decides nothing
    recorded = []
    for seed in (4, 4, 5):
        trainer = make_trainer(data=picture, seed=seed)
        recorder = Recorder(trainer)
        for _ in range(2):
            trainer.step(0.0)
        recorded.append(recorder)
    first, same, other = recorded
    assert torch.equal(torch.stack(first.x), torch.stack(same.x))
    for said in ("x", "t"):
        one, two = getattr(first, said)
        assert not torch.equal(one, two)
        assert not torch.equal(one, getattr(other, said)[0])


def test_steps_and_images_are_counted() -> None:
    trainer = make_trainer(batch_size=7)
    for _ in range(3):
        trainer.step(0.0)
    assert (trainer.steps_done, trainer.images_seen) == (3, 21)


@pytest.mark.parametrize(
    ("name", "peaks"), [("fast", [3e-3 * 1.25, 3e-3]), ("ddpm", [1e-3])], ids=["muon", "adam"]
)
def test_learning_rates_rise_for_fifty_steps_and_fall_with_the_progress(
    name: RecipeName, peaks: list[float]
) -> None:
    trainer = make_trainer(RECIPES[name])
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    for done, progress in ((0, 0.0), (19, 0.25), (48, 0.0), (49, 0.0), (50, 0.5), (300, 0.875)):
        trainer.steps_done = done
        trainer.step(progress)
        share = min(1, (done + 1) / 50) * (1 - progress)
        assert [group["lr"] for group in groups] == pytest.approx([peak * share for peak in peaks])


def test_at_the_end_of_the_run_the_learning_rate_is_zero() -> None:
    trainer = make_trainer()
    trainer.step(0.0)
    before = weights(trainer)
    trainer.step(1.0)
    assert torch.equal(weights(trainer), before)
    trainer.step(0.5)
    assert not torch.equal(weights(trainer), before)


def test_the_average_follows() -> None:
    trainer = make_trainer()
    trainer.step(0.0)
    average = torch.cat([param.flatten() for param in trainer.ema.network.parameters()])
    assert torch.allclose(average, weights(trainer))
    before = weights(trainer)
    trainer.step(0.0)
    average = torch.cat([param.flatten() for param in trainer.ema.network.parameters()])
    assert (average - before).norm() > 0
    assert (average - weights(trainer)).norm() < (average - before).norm()


def test_labels_are_dropped_image_by_image() -> None:
    trainer = make_trainer(replace(RECIPES["fast"], label_dropout=0.1), batch_size=256)
    recorded = Recorder(trainer)
    for _ in range(8):
        trainer.step(0.0)
    dropped = torch.cat(recorded.labels) == trainer.denoiser.network.no_label
    # Four standard deviations of a share of 2048.
    assert dropped.float().mean().item() == pytest.approx(0.1, abs=0.027)
    assert all(0 < batch.float().mean() < 0.3 for batch in dropped.view(8, 256))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_labels_may_stay_or_all_be_dropped(share: float) -> None:
    trainer = make_trainer(replace(RECIPES["fast"], label_dropout=share))
    recorded = Recorder(trainer)
    trainer.step(0.0)
    dropped = recorded.labels[0] == trainer.denoiser.network.no_label
    assert bool((dropped == bool(share)).all())


def test_stratified_timesteps_have_one_in_each_part() -> None:
    recipe = replace(RECIPES["fast"], stratified=True, timesteps=TimestepDensity())
    trainer = make_trainer(recipe, batch_size=30)
    recorded = Recorder(trainer)
    trainer.step(0.0)
    assert torch.equal(recorded.t[0] // 10, torch.arange(30))


def test_timesteps_are_drawn_with_the_probabilities_of_the_recipe() -> None:
    """Stratified, of n draws of a timestep of probability p all but two of n * p are sure."""
    trainer = make_trainer(RECIPES["fast"], batch_size=2000)
    recorded = Recorder(trainer)
    trainer.step(0.0)
    drawn = torch.bincount(recorded.t[0], minlength=300)
    density = RECIPES["fast"].timesteps
    expected = 2000 * density.probabilities(trainer.denoiser.schedule.log_snr)
    assert density.height > 0
    assert (drawn - expected).abs().max() <= 2


def test_other_timesteps_are_uniform() -> None:
    trainer = make_trainer(replace(RECIPES["ddpm"], stratified=False), batch_size=256)
    recorded = Recorder(trainer)
    for _ in range(10):
        trainer.step(0.0)
    t = torch.cat(recorded.t)
    assert t.min() >= 0
    assert t.max() <= 299
    counts = torch.bincount(t // 30, minlength=10).double()
    # Chi-square with 9 degrees of freedom: one in a hundred thousand is above 40.
    assert float(((counts - 256) ** 2 / 256).sum()) < 40


def test_the_network_gets_the_noisy_images_of_its_labels() -> None:
    """At the least noisy timesteps the images themselves can be told."""
    trainer = make_trainer(replace(RECIPES["fast"], label_dropout=0.0), batch_size=64)
    recorded = Recorder(trainer)
    trainer.step(0.0)
    clear = recorded.t[0] < 50
    assert clear.any()
    means = recorded.x[0][clear].mean(dim=(1, 2, 3))
    assert torch.equal((means > 0).long(), recorded.labels[0][clear])


def test_half_of_the_images_are_mirrored_if_asked() -> None:
    data = flat_pictures(64)
    data.images[:] = 0
    data.images[:, :, :, :4] = 255
    mirrored = []
    for flip in (False, True):
        trainer = make_trainer(data=data, batch_size=256, flip=flip)
        recorded = Recorder(trainer)
        trainer.step(0.0)
        clear = recorded.x[0][recorded.t[0] < 100]
        left, right = clear.chunk(2, dim=3)
        mirrored.append((left.mean(dim=(1, 2, 3)) < right.mean(dim=(1, 2, 3))).float().mean())
    assert float(mirrored[0]) == 0
    assert float(mirrored[1]) == pytest.approx(0.5, abs=0.22)


@pytest.mark.long
@pytest.mark.parametrize("name", ["fast", "ddpm"])
def test_it_learns_what_the_labels_mean(name: RecipeName) -> None:
    recipe = RECIPES[name]
    trainer = make_trainer(recipe, batch_size=32)
    steps = 250
    losses = [float(trainer.step(step / steps)) for step in range(steps)]

    # Predicting nothing costs the mean square of the target: of noise 1, of v less.
    x0, _ = trainer.data.batch(torch.arange(64))
    t = torch.arange(64) * 300 // 64
    nothing = trainer.denoiser.target(x0, t, torch.randn_like(x0)).square().mean()
    assert sum(losses[-20:]) / 20 < 0.2 * float(nothing)

    averaged = Denoiser(trainer.ema.network, trainer.denoiser.schedule, recipe.prediction_type)
    labels = torch.tensor([0, 0, 1, 1])
    *_, last = generate(averaged, labels, range(4), recipe.sampling)
    means = last.x.mean(dim=(1, 2, 3))
    expected = torch.tensor([DARK, DARK, BRIGHT, BRIGHT]) / 127.5 - 1
    assert torch.allclose(means, expected, atol=0.4)


class Recording(DiffusionLoss):
    """Keeps the batches that it is given."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def __call__(self, denoiser: Denoiser, batch: Batch, step: int) -> Tensor:
        self.batches.append(batch)
        return super().__call__(denoiser, batch, step)


def test_images_are_mirrored_whether_or_not_they_lose_their_label() -> None:
    images = torch.zeros(8, 1, 8, 8, dtype=torch.uint8)
    images[..., :4] = 255
    data = LabelledImages(images, torch.arange(8) % 2, ("a", "b", "c"))
    trainer = make_trainer(
        replace(RECIPES["fast"], label_dropout=0.5), data, batch_size=400, flip=True
    )
    trainer.objective = recording = Recording()
    trainer.step(0.0)
    (batch,) = recording.batches
    mirrored = batch.x0[:, 0, 0, 0] < 0
    dropped = batch.labels == trainer.denoiser.network.no_label
    for some in (dropped, ~dropped):
        assert 0.35 < float(mirrored[some].double().mean()) < 0.65


@pytest.mark.parametrize("native", [False, True])
def test_the_network_is_trained_in_bfloat16_if_the_device_is_fast_at_it(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffcli.device.has_native_bfloat16", lambda _: native)
    trainer = make_trainer()
    found: list[torch.dtype] = []
    head = trainer.denoiser.network.head
    head.register_forward_hook(lambda _module, _given, result: found.append(result.dtype))
    trainer.step(0.0)
    assert found == [torch.bfloat16 if native else torch.float32]
