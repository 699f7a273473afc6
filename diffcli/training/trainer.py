"""The training step: a batch, noise, the loss, an update."""

import hashlib
from functools import lru_cache

import torch
from torch import Tensor, nn

from diffcli.core.denoiser import Denoiser
from diffcli.data.images import LabelledImages
from diffcli.training.ema import PowerEMA
from diffcli.training.optim import Muon
from diffcli.training.recipe import Recipe

WARMUP_STEPS = 50
# Muon's updates are orthogonal, which bears a larger step than Adam's.
MUON_RATE = 5.0


def derived_seed(*parts: object) -> int:
    """A 32-bit seed that is a function of ``parts`` (the CPU generator uses no more bits)."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "little")


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    return torch.randperm(count, generator=generator)


def batch_index(seed: int, step: int, batch_size: int, count: int) -> Tensor:
    """Which images step ``step``, counted from 0, trains on: int64 ``(batch_size,)``.

    The data set is read over and over, each time in an order of its own; batches are
    consecutive pieces of that, across the ends of epochs.
    """
    parts = []
    position, end = step * batch_size, (step + 1) * batch_size
    while position < end:
        epoch, offset = divmod(position, count)
        piece = _epoch_order(seed, epoch, count)[offset : offset + end - position]
        parts.append(piece)
        position += len(piece)
    return torch.cat(parts)


class Trainer:
    """Everything that changes while a model is trained.

    What a step does depends on the state, the seed and the step's number alone, never on
    what was drawn before: a run that is interrupted and resumed is the run that was not.

    Args:
        denoiser: the model, on the device to train on.
        data: the training images; they are moved to that device.
        recipe: how to train.
        batch_size: images per step.
        seed: of the order, the timesteps, the noise and the dropped labels.
    """

    def __init__(
        self, denoiser: Denoiser, data: LabelledImages, recipe: Recipe, batch_size: int, seed: int
    ) -> None:
        self.denoiser = denoiser.train().requires_grad_(True)
        self.device = denoiser.schedule.signal.device
        self.data = data.to(self.device)
        self.recipe = recipe
        self.batch_size = batch_size
        self.seed = seed
        self.steps_done = 0
        self.ema = PowerEMA(denoiser.network)
        self.optimizers = _make_optimizers(denoiser.network, recipe)
        self._base_rates = [
            group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups
        ]
        self.half_precision = has_native_bfloat16(self.device)

    @property
    def images_seen(self) -> int:
        """How many images the model was trained on, each counted as often as it was seen."""
        return self.steps_done * self.batch_size

    def step(self, progress: float) -> Tensor:
        """Train on the next batch.

        Args:
            progress: the share of the run that lies behind, 0 .. 1; the learning rate falls
                linearly with it.

        Returns:
            The loss, a scalar tensor on the device, so that reading it is up to the caller.
        """
        self._set_rates(progress)
        loss = self._loss()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.steps_done += 1
        self.ema.update(self.denoiser.network, self.steps_done)
        return loss.detach()

    def _set_rates(self, progress: float) -> None:
        factor = min(1.0, (self.steps_done + 1) / WARMUP_STEPS) * (1 - progress)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, self._base_rates, strict=True):
            group["lr"] = rate * factor

    def _loss(self) -> Tensor:
        index = batch_index(self.seed, self.steps_done, self.batch_size, len(self.data))
        x0, labels = self.data.batch(index.to(self.device))
        generator = torch.Generator(self.device)
        generator.manual_seed(derived_seed(self.seed, "step", self.steps_done))
        u, dropout = torch.rand(2, len(x0), generator=generator, device=self.device)
        if self.recipe.stratified:
            u = (torch.arange(len(x0), device=self.device) + u) / len(x0)
        num_timesteps = self.denoiser.schedule.num_timesteps
        t = (u * num_timesteps).long().clamp_(max=num_timesteps - 1)
        labels = labels.where(dropout >= self.recipe.label_dropout, self.denoiser.network.no_label)
        epsilon = torch.randn(x0.shape, generator=generator, device=self.device)
        return diffusion_loss(self.denoiser, x0, labels, t, epsilon, self.half_precision).mean()


def diffusion_loss(
    denoiser: Denoiser, x0: Tensor, labels: Tensor, t: Tensor, epsilon: Tensor, half: bool
) -> Tensor:
    """Mean squared error of the network's prediction, per image ``(B,)``.

    Source: Ho et al. 2020, eq. 14; for v, Salimans & Ho 2022, section 4.
    """
    x_t, _ = denoiser.schedule.add_noise(x0, t, epsilon)
    with torch.autocast(x0.device.type, torch.bfloat16, enabled=half):
        prediction = denoiser.network(x_t, t, labels)
    target = denoiser.target(x0, epsilon, t)
    return (prediction.float() - target).square().mean(dim=(1, 2, 3))


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there, and not emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)


def _make_optimizers(network: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    rate = recipe.learning_rate
    if recipe.optimizer == "adam":
        return [torch.optim.Adam(network.parameters(), rate, fused=True)]
    # Muon is for matrices from features to features; what stands at the network's ends, or
    # comes from embeddings, is not of that kind (Jordan 2024).
    ends = ("stem.", "head.", "time_embedding.", "label_embedding.", ".modulation.")
    matrices, rest = [], []
    for name, param in network.named_parameters():
        inside = param.ndim >= 2 and not any(end in f".{name}" for end in ends)
        (matrices if inside else rest).append(param)
    return [
        Muon(matrices, rate * MUON_RATE),
        torch.optim.AdamW(rest, rate, betas=(0.9, 0.99), weight_decay=0, fused=True),
    ]
