"""Where the steps of a sampler fall: which of the T timesteps it visits."""

from typing import Literal

import torch

from diffcli.core.schedule import NoiseSchedule, step_pairs, step_plan

Placement = Literal["uniform", "log-snr"]

# Half the log-SNR at which ``log-snr`` begins and ends.  Beyond, an image is all noise or all
# but clean, and a step there would be taken from where shapes are decided.
LOG_SNR_RANGE = (-4.0, 4.0)


def place_steps(
    schedule: NoiseSchedule, num_steps: int, placement: Placement, start: int | None = None
) -> list[tuple[int, int]]:
    """Choose ``num_steps`` timesteps below ``start``.

    ``uniform`` spaces them evenly in t, ``log-snr`` in ``lambda = log(signal / noise)``
    (Lu et al. 2022, section 6) between the ends of the schedule, but not beyond -4 .. 4.

    Args:
        schedule: the process.
        num_steps: network evaluations.
        placement: see above.
        start: how many of the timesteps, from the least noisy, may be visited; all if absent.

    Returns:
        ``num_steps`` pairs ``(t, s)`` with ``t`` decreasing, the last ``s`` -1, which is clean.

    Raises:
        ValueError: unless ``1 <= num_steps <= start <= T``.
    """
    count = schedule.num_timesteps if start is None else start
    if not 1 <= count <= schedule.num_timesteps:
        raise ValueError(f"start must be in 1 .. {schedule.num_timesteps}, not {count}")
    even = step_plan(count, num_steps)
    if placement == "uniform":
        return even
    half_log_snr = schedule.log_snr[:count] / 2
    low, high = LOG_SNR_RANGE
    first, last = max(low, float(half_log_snr[-1])), min(high, float(half_log_snr[0]))
    # The last target itself is left out: the step from the one before it leads to clean.
    targets = torch.linspace(first, last, num_steps + 1, dtype=torch.float64)[:-1]
    nearest = (half_log_snr[:, None] - targets).abs().argmin(dim=0).tolist()
    timesteps: list[int] = []
    for index, t in enumerate(nearest):
        # Where targets are closer than timesteps, the next ones down, as long as they last.
        below = timesteps[-1] - 1 if timesteps else count - 1
        timesteps.append(max(min(t, below), num_steps - 1 - index))
    return step_pairs(timesteps)
