"""The training step: a batch, noise, the loss, an update."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import AUGMENTATIONS
from diffcli.data.images import LabelledImages
from diffcli.device import has_native_bfloat16, mixed_precision
from diffcli.training.augmentation import augment
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.ema import PowerEMA
from diffcli.training.objectives import Batch, DiffusionLoss, Objective
from diffcli.training.optimizers import make_optimizers
from diffcli.training.order import batch_index, derived_seed

WARMUP_STEPS = 50


class Trainer:
    """A model in training, and all that changes with it.

    A step depends on the state, the seed, the number of the step and the progress alone, and not
    on what was drawn before.  A run without a limit in time that is interrupted and resumed
    therefore equals one that is not, bit for bit on a CPU with the same number of threads.
    Kernels of GPUs may add in another order each time.

    Args:
        denoiser: the model, on the device to train on.
        data: the training images; they are moved to that device.
        config: of the run.
        distributed: the processes that share each batch.
        objective: what is minimised; if None, the loss of diffusion.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        data: LabelledImages,
        config: RunConfig,
        distributed: Distributed,
        objective: Objective | None = None,
    ) -> None:
        self.denoiser = denoiser
        self.objective: Objective = objective or DiffusionLoss()
        self._trained = {"": denoiser}
        if self.objective.critic:
            self._trained["critic."] = self.objective.critic
        for model in self._trained.values():
            model.train().requires_grad_(True)
        self.device = denoiser.schedule.device
        self.data = data.to(self.device)
        self.config = config
        self.steps_done = 0
        self._distributed = distributed
        probabilities = config.recipe.timesteps.probabilities(denoiser.schedule.log_snr)
        self._cumulative = probabilities.cumsum(0).float().to(self.device)
        self.ema = PowerEMA(denoiser.network)
        bfloat16 = has_native_bfloat16(self.device)
        self.optimizers = [
            optimizer
            for model in self._trained.values()
            for optimizer in make_optimizers(model.network, config.recipe, bfloat16)
        ]
        self._base_rates = [group["lr"] for group in self._groups()]

    @property
    def images_seen(self) -> int:
        """How many images the model was trained on, with repetitions."""
        return self.steps_done * self.config.recipe.batch_size

    def compile(self) -> None:
        """Compile the network's forward and backward pass; a critic's stays as it is.

        Raises:
            RuntimeError: if that fails, for example without a C++ compiler; all networks of the
                process then run without being compiled.
        """
        self.denoiser.network.compile()
        try:
            self._loss().backward()
        except RuntimeError:
            torch.compiler.set_stance("force_eager")
            raise
        finally:
            for optimizer in self.optimizers:
                optimizer.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """All tensors that the next steps depend on, by name; ``steps_done`` is the rest."""
        named = {f"ema.{k}": v for k, v in self.ema.network.state_dict().items()}
        for prefix, model in self._trained.items():
            weights = model.network.state_dict().items()
            named |= {f"{prefix}network.{name}": value for name, value in weights}
        for prefix, optimizer, param in self._optimized():
            named |= {f"{prefix}.{key}": value for key, value in optimizer.state[param].items()}
        return named

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor], steps_done: int) -> None:
        """Restore the state after ``steps_done`` steps, from tensors of the same names and shapes.

        The tensors may be on another device.
        """
        # Copied into tensors of the same strides, because kernels may round by memory layout.
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        self.steps_done = steps_done

    def _optimized(self) -> Iterator[tuple[str, torch.optim.Optimizer, nn.Parameter]]:
        """Every parameter with its optimizer and a name for the two."""
        names = {
            id(param): f"{prefix}optimizer.{name}"
            for prefix, model in self._trained.items()
            for name, param in model.network.named_parameters()
        }
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for param in group["params"]:
                    yield names[id(param)], optimizer, param

    def step(self, progress: float) -> Tensor:
        """Train on the next batch.

        Args:
            progress: the share of the run that is done, 0 .. 1; the learning rate falls linearly
                with it.

        Returns:
            The loss, a scalar tensor on the device: reading it would make the device wait.
        """
        self._set_rates(progress)
        loss = self._loss()
        loss.backward()
        loss = loss.detach()
        params = [param for model in self._trained.values() for param in model.parameters()]
        grads = [param.grad for param in params if param.grad is not None]
        self._distributed.sum_in_place([*grads, loss])
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.steps_done += 1
        self.ema.update(self.denoiser.network, self.steps_done)
        return loss

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _set_rates(self, progress: float) -> None:
        factor = min(1.0, (self.steps_done + 1) / WARMUP_STEPS) * (1 - progress)
        for group, rate in zip(self._groups(), self._base_rates, strict=True):
            group["lr"] = rate * factor

    def _loss(self) -> Tensor:
        """This process's part of the mean loss of the next batch."""
        batch = self._batch()
        with mixed_precision(self.device):
            losses = self.objective(self.denoiser, batch, self.steps_done)
        return losses.sum() / self.config.recipe.batch_size

    def _batch(self) -> Batch:
        """This process's part of the next batch."""
        # Drawn for the whole batch in every process, so that their number makes no difference.
        seed, recipe, schedule = self.config.seed, self.config.recipe, self.denoiser.schedule
        count = recipe.batch_size
        index = batch_index(seed, self.images_seen, count, len(self.data)).to(self.device)
        generator = torch.Generator(self.device)
        generator.manual_seed(derived_seed(seed, "step", self.steps_done))
        u, dropout, flip = torch.rand(3, count, generator=generator, device=self.device)
        shape = (count, *self.data.images.shape[1:])
        if recipe.stratified:
            u = (torch.arange(count, device=self.device) + u) / count
        # Timestep t is drawn if u lies between the cumulative probabilities before and at t.
        t = torch.searchsorted(self._cumulative, u, right=True)
        t.clamp_(max=schedule.num_timesteps - 1)

        def draw_noise() -> Tensor:
            noise = torch.randn(shape, generator=generator, device=self.device)
            return self._distributed.part(noise)

        index, t, dropout, flip = map(self._distributed.part, (index, t, dropout, flip))
        x0, labels = self.data.batch(index)
        if self.config.flip:
            x0 = x0.where(flip[:, None, None, None] < 0.5, x0.flip(3))
        code = None
        if recipe.augmentation:
            size = (count, AUGMENTATIONS)
            chance = torch.rand(size, generator=generator, device=self.device)
            normal = torch.randn(size, generator=generator, device=self.device)
            chance, normal = map(self._distributed.part, (chance, normal))
            x0, code = augment(x0, recipe.augmentation, chance, normal)
        labels = labels.where(dropout >= recipe.label_dropout, self.denoiser.network.no_label)
        return Batch(x0, t, labels, code, draw_noise)
