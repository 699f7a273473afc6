"""What a run will be and will cost, before it starts."""

import time
from dataclasses import dataclass
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

from diffcli.core.denoiser import Denoiser
from diffcli.data.images import to_model_range
from diffcli.training.trainer import Trainer

_TRIAL_SECONDS = 1.0
# A few steps, unless the machine is so slow that even these take long.
_LEAST_TRIAL_STEPS, _LONGEST_TRIAL_SECONDS = 3, 3.0
_MOST_LOOKED_AT = 1000
# Above this, sampling starts visibly elsewhere than training ended.
_TOLERABLE_ALPHAS_CUMPROD = 0.01


@dataclass(frozen=True)
class Plan:
    """What a run will be and will cost.

    Args:
        parameters: of the network.
        flops_per_image: floating point operations of one forward pass.
        final_alphas_cumprod: at the last timestep: the share of the variance that is signal.
        prior_kl: nats per image between the last timestep and the N(0, I) that sampling starts
            from (Ho et al. 2020, eq. 5, first term).
        images_per_second: of training, measured.
        seconds: expected for the rest of the run at that speed.
    """

    parameters: int
    flops_per_image: int
    final_alphas_cumprod: float
    prior_kl: float
    images_per_second: float
    seconds: float

    @property
    def warning(self) -> str | None:
        """What is wrong with a schedule that leaves signal at the last timestep."""
        if self.final_alphas_cumprod < _TOLERABLE_ALPHAS_CUMPROD:
            return None
        return (
            f"the last timestep still holds {self.final_alphas_cumprod**0.5:.0%} of the picture, "
            "but sampling starts from pure noise"
        )


def make_plan(trial: Trainer, processes: int = 1, progress: float = 0.0) -> Plan:
    """Measure and compute the plan of a run.

    Args:
        trial: a trainer at the start of the run; it is used up.
        processes: how many will share the run, each with a part of every batch.
        progress: the share of the run that is done.
    """
    denoiser, images, config = trial.denoiser, trial.data.images, trial.config
    schedule = denoiser.schedule
    flops = count_flops(denoiser)
    speed = measure_speed(trial) * processes
    some = images[:: -(-len(images) // _MOST_LOOKED_AT)]
    mean_square = float(to_model_range(some).square().mean())
    whole = config.budget(len(images)).duration(speed / config.recipe.batch_size)
    return Plan(
        parameters=sum(param.numel() for param in denoiser.network.parameters()),
        flops_per_image=flops,
        final_alphas_cumprod=float(schedule.alphas_cumprod[-1]),
        prior_kl=schedule.prior_kl(mean_square) * images[0].numel(),
        images_per_second=speed,
        seconds=whole * (1 - progress),
    )


def count_flops(denoiser: Denoiser) -> int:
    """Floating point operations of one forward pass for one image."""
    device = denoiser.schedule.device
    image = torch.zeros(1, *denoiser.network.config.image_shape, device=device)
    index = torch.zeros(1, dtype=torch.long, device=device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        denoiser.network(image, index, index)
    return int(counter.get_total_flops())


def measure_speed(trial: Trainer) -> float:
    """Images per second of training: the median over a second of steps.

    Args:
        trial: a trainer; it is used up.
    """
    float(trial.step(0.0))  # the first step is slower than the others
    durations: list[float] = []
    while sum(durations) < _TRIAL_SECONDS or (
        len(durations) < _LEAST_TRIAL_STEPS and sum(durations) < _LONGEST_TRIAL_SECONDS
    ):
        start = time.perf_counter()
        float(trial.step(0.0))  # reading the loss waits for the device
        durations.append(time.perf_counter() - start)
    return trial.config.recipe.batch_size / median(durations)
