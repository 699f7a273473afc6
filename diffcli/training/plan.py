"""What a run is going to be and to cost, before it starts."""

import time
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from diffcli.core.denoiser import Denoiser
from diffcli.data.images import LabelledImages, to_model_range
from diffcli.training.budget import Budget
from diffcli.training.config import RunConfig
from diffcli.training.trainer import Trainer

_TRIAL_SECONDS = 1.0
# Above this, sampling starts visibly elsewhere than training ended.
_TOLERABLE_SIGNAL = 0.01


@dataclass(frozen=True)
class Plan:
    """What a run is going to be and to cost.

    Args:
        parameters: of the network.
        flops_per_image: of one forward pass, in floating point operations.
        final_alpha_bar: alpha_bar at the last timestep: the share of the variance there
            that is still signal.
        prior_mismatch: nats per image between what training calls pure noise and the N(0, I)
            that sampling starts from (Ho et al. 2020, eq. 5, first term).
        initialisation_left: share of the initial weights in the average at the end.
        images_per_second: of training, measured just now.
        seconds: that the whole run takes at that speed.
    """

    parameters: int
    flops_per_image: int
    final_alpha_bar: float
    prior_mismatch: float
    initialisation_left: float
    images_per_second: float
    seconds: float

    @property
    def warning(self) -> str | None:
        """What to do about a schedule that leaves the picture in the last timestep."""
        if self.final_alpha_bar < _TOLERABLE_SIGNAL:
            return None
        return (
            f"the last timestep still holds {self.final_alpha_bar**0.5:.0%} of the picture, but "
            "sampling starts from pure noise; --recipe fast has a schedule without that flaw"
        )


def make_plan(denoiser: Denoiser, data: LabelledImages, config: RunConfig, trial: Trainer) -> Plan:
    """Measure and compute.

    Args:
        denoiser: an untrained model, on the CPU.
        data: the training images.
        config: of the run.
        trial: a trainer of the same kind, which is used up.
    """
    schedule = denoiser.schedule
    mean_square = float(to_model_range(data.images[:1000]).square().mean())
    speed = _measured_speed(trial)
    budget = config.budget(len(data))
    return Plan(
        parameters=sum(param.numel() for param in denoiser.network.parameters()),
        flops_per_image=count_flops(denoiser),
        final_alpha_bar=float(schedule.alphas_cumprod[-1]),
        prior_mismatch=schedule.prior_mismatch(mean_square) * data.images[0].numel(),
        initialisation_left=trial.ema.decay(1),  # later steps only lessen it
        images_per_second=speed,
        seconds=_duration(budget, speed / config.batch_size),
    )


def count_flops(denoiser: Denoiser) -> int:
    """Floating point operations of one forward pass for one image."""
    config = denoiser.network.config
    image = torch.zeros(1, config.image_channels, config.image_height, config.image_width)
    index = torch.zeros(1, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoiser.network(image, index, index)
    return int(counter.get_total_flops())


def _measured_speed(trial: Trainer) -> float:
    float(trial.step(0.0))  # the first step is slower, and no measure
    start = time.perf_counter()
    while (elapsed := time.perf_counter() - start) < _TRIAL_SECONDS:
        float(trial.step(0.0))
    return (trial.steps_done - 1) * trial.config.batch_size / elapsed


def _duration(budget: Budget, steps_per_second: float) -> float:
    by_steps = budget.steps / steps_per_second if budget.steps else float("inf")
    return min(by_steps, budget.seconds or float("inf"))
