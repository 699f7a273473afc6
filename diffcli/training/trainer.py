"""The training step: a batch, noise, the loss, an update."""

import hashlib
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor, nn

from diffcli.core.denoiser import Denoiser
from diffcli.data.images import LabelledImages
from diffcli.training.config import RunConfig
from diffcli.training.distribution import World
from diffcli.training.ema import PowerEMA
from diffcli.training.optim import Muon
from diffcli.training.recipe import Recipe

WARMUP_STEPS = 50
# Muon's updates are orthogonal, which bears a larger step than Adam's.
MUON_RATE = 1.25


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
        config: the batch size, the seed and whether to flip.
        world: the processes that share each batch.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        data: LabelledImages,
        recipe: Recipe,
        config: RunConfig,
        world: World,
    ) -> None:
        self.denoiser = denoiser.train().requires_grad_(True)
        self.device = denoiser.schedule.signal.device
        self.data = data.to(self.device)
        self.recipe = recipe
        self.config = config
        self.steps_done = 0
        self._world = world
        probabilities = recipe.timesteps.probabilities(denoiser.schedule.log_snr)
        self._cumulative = probabilities.cumsum(0).float().to(self.device)
        self.ema = PowerEMA(denoiser.network)
        self.half_precision = has_native_bfloat16(self.device)
        self.optimizers = _make_optimizers(denoiser.network, recipe, self.half_precision)
        self._base_rates = [
            group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups
        ]

    @property
    def images_seen(self) -> int:
        """How many images the model was trained on, each counted as often as it was seen."""
        return self.steps_done * self.config.batch_size

    def compile(self) -> None:
        """Compile the network's forward and backward pass.

        Raises:
            RuntimeError: if that fails, for want of a compiler; the network runs as it is then.
        """
        self.denoiser.network.compile()
        try:
            self._loss().backward()
        except RuntimeError:
            torch.compiler.set_stance("force_eager")
            raise
        finally:
            self.denoiser.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next steps depend on, by name; ``steps_done`` is the rest."""
        named = {f"network.{k}": v for k, v in self.denoiser.network.state_dict().items()}
        named |= {f"ema.{k}": v for k, v in self.ema.network.state_dict().items()}
        for prefix, optimizer, param in self._optimized():
            named |= {f"{prefix}.{key}": value for key, value in optimizer.state[param].items()}
        return named

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor], steps_done: int) -> None:
        """Go on from where ``state`` was taken, after ``steps_done`` steps.

        Raises:
            ValueError: if the tensors are not those of this trainer.
        """
        own = self.state()
        if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in own.items()}:
            raise ValueError("its tensors are not those of this run")
        # Copied into tensors of the same strides, since kernels may round by memory layout.
        for name, tensor in own.items():
            tensor.copy_(state[name])
        self.steps_done = steps_done

    def _optimized(self) -> Iterator[tuple[str, torch.optim.Optimizer, nn.Parameter]]:
        """Every parameter with its optimizer and a name for the two."""
        names = {id(param): name for name, param in self.denoiser.network.named_parameters()}
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for param in group["params"]:
                    yield f"optimizer.{names[id(param)]}", optimizer, param

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
        loss = loss.detach()
        grads = [param.grad for param in self.denoiser.parameters() if param.grad is not None]
        self._world.sum_in_place([*grads, loss])
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.steps_done += 1
        self.ema.update(self.denoiser.network, self.steps_done)
        return loss

    def _set_rates(self, progress: float) -> None:
        factor = min(1.0, (self.steps_done + 1) / WARMUP_STEPS) * (1 - progress)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group, rate in zip(groups, self._base_rates, strict=True):
            group["lr"] = rate * factor

    def _loss(self) -> Tensor:
        """This process's part of the mean loss of the next batch."""
        # Drawn for the whole batch by every process, so that their number changes nothing.
        seed, count = self.config.seed, self.config.batch_size
        index = batch_index(seed, self.steps_done, count, len(self.data)).to(self.device)
        generator = torch.Generator(self.device)
        generator.manual_seed(derived_seed(seed, "step", self.steps_done))
        u, dropout, flip = torch.rand(3, count, generator=generator, device=self.device)
        shape = (count, *self.data.images.shape[1:])
        epsilon = torch.randn(shape, generator=generator, device=self.device)
        if self.recipe.stratified:
            u = (torch.arange(count, device=self.device) + u) / count
        # Timestep t is drawn where u falls between the sums of the probabilities before and at t.
        t = torch.searchsorted(self._cumulative, u, right=True)
        t.clamp_(max=self.denoiser.schedule.num_timesteps - 1)

        index, t, epsilon, dropout, flip = map(
            self._world.share, (index, t, epsilon, dropout, flip)
        )
        x0, labels = self.data.batch(index)
        if self.config.flip:
            x0 = x0.where(flip[:, None, None, None] < 0.5, x0.flip(3))
        labels = labels.where(dropout >= self.recipe.label_dropout, self.denoiser.network.no_label)
        losses = diffusion_loss(self.denoiser, x0, labels, t, epsilon, self.half_precision)
        return losses.sum() / count


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


def _make_optimizers(network: nn.Module, recipe: Recipe, half: bool) -> list[torch.optim.Optimizer]:
    rate = recipe.learning_rate
    if recipe.optimizer == "adam":
        adam = torch.optim.Adam(network.parameters(), rate, fused=True)
        return [_with_state(adam)]
    # Muon is for matrices from features to features; what stands at the network's ends, or
    # comes from embeddings, is not of that kind (Jordan 2024).
    ends = ("stem.", "head.", "time_embedding.", "label_embedding.", ".modulation.")
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, param in network.named_parameters():
        inside = param.ndim >= 2 and not any(end in f".{name}" for end in ends)
        (matrices if inside else rest).append(param)
    adam = torch.optim.Adam(rest, rate, betas=(0.9, 0.99), fused=True)
    muon = Muon(matrices, rate * MUON_RATE, half=half)
    return [muon, _with_state(adam)]


def _with_state(adam: torch.optim.Adam) -> torch.optim.Adam:
    """The same with the state that it would otherwise make at its first step."""
    for group in adam.param_groups:
        for param in group["params"]:
            adam.state[param] = {
                "step": torch.zeros((), device=param.device),
                "exp_avg": torch.zeros_like(param),
                "exp_avg_sq": torch.zeros_like(param),
            }
    return adam
