"""Where steps fall: exactly as many as asked for, decreasing, ending clean, evenly in lambda."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcli.core.placement import LOG_SNR_RANGE, Placement, place_steps
from diffcli.core.schedule import NoiseSchedule, ScheduleConfig, ScheduleName, step_plan

SCHEDULES: dict[ScheduleName, NoiseSchedule] = {
    name: NoiseSchedule.from_config(ScheduleConfig(name, 300))
    for name in ("linear", "scaled-linear", "cosine")
}


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    placement=st.sampled_from(["uniform", "log-snr"]),
    numbers=st.integers(1, 300).flatmap(lambda s: st.tuples(st.integers(1, s), st.just(s))),
)
def test_every_number_of_steps_is_distinct_decreasing_and_ends_clean(
    name: ScheduleName, placement: Placement, numbers: tuple[int, int]
) -> None:
    steps, start = numbers
    plan = place_steps(SCHEDULES[name], steps, placement, start)
    visited = [t for t, _ in plan]
    assert len(plan) == steps
    assert start > visited[0]
    assert all(t > s for t, s in plan)
    assert [s for _, s in plan] == [*visited[1:], -1]


def test_uniform_is_the_plain_plan_and_starts_at_the_noisiest_timestep() -> None:
    assert place_steps(SCHEDULES["cosine"], 7, "uniform") == step_plan(300, 7)
    assert place_steps(SCHEDULES["cosine"], 7, "uniform", start=100) == step_plan(100, 7)


def test_log_snr_steps_are_even_in_lambda_and_stay_in_range() -> None:
    schedule = SCHEDULES["scaled-linear"]
    plan = place_steps(schedule, 10, "log-snr")
    half = schedule.log_snr[[t for t, _ in plan]] / 2
    gaps = half.diff()
    # Timesteps are whole numbers, which moves each lambda by at most half a timestep's worth.
    assert torch.allclose(gaps, gaps.mean().expand_as(gaps), atol=0.35)
    assert float(half[0]) == pytest.approx(LOG_SNR_RANGE[0], abs=0.1)
    assert float(half[-1]) < LOG_SNR_RANGE[1]


@pytest.mark.parametrize(("steps", "start"), [(0, 300), (301, 300), (6, 5), (1, 0), (1, 301)])
def test_impossible_plans_are_refused(steps: int, start: int) -> None:
    for placement in ("uniform", "log-snr"):
        with pytest.raises(ValueError, match="must be in 1"):
            place_steps(SCHEDULES["cosine"], steps, placement, start)
