import math
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcli.core.generate import count_evaluations
from diffcli.core.parameters import SamplingSettings
from diffcli.core.schedule import step_plan
from diffcli.data.images import proportional_subset
from diffcli.evaluation import tuning
from diffcli.evaluation.frechet import fit_gaussian, frechet_distance
from diffcli.evaluation.network import read_images
from diffcli.evaluation.provide import train_features
from diffcli.evaluation.samples import draw_samples
from diffcli.evaluation.tuning import (
    CancelledError,
    DrawnDistance,
    Interrupted,
    Trial,
    search,
    tune,
)
from diffcli.sampling.model import Model
from tests import tiny
from tests.evaluation.pictures import NAMES, bars

T = 300


def guided_share(settings: SamplingSettings) -> float:
    plan = step_plan(T, settings.steps, settings.spacing)
    return sum(settings.guidance_at(t) != 1 for t, _ in plan) / len(plan)


def bowl(settings: SamplingSettings, *_: object) -> float:
    """Least at 10 steps of ddpm, spacing 1.75, guidance 1.6 at about half of the steps."""
    return (
        abs(math.log(settings.steps / 10))
        + 3 * abs(settings.guidance_scale - 1.6)
        + abs(settings.spacing - 1.75)
        + 2 * abs(guided_share(settings) - 0.5)
        + (0 if settings.sampler == "ddpm" else 1)
    )


def last(trials: Iterable[Trial]) -> Trial:
    *_, trial = trials
    return trial


@pytest.mark.parametrize(
    "start",
    [
        SamplingSettings("dpmpp", 16),
        SamplingSettings("dpmpp-sde", 40, 3.0),
        SamplingSettings("ddpm", 4, 1.5, (100, 150), spacing=2.5),
    ],
)
def test_the_best_settings_are_found(start: SamplingSettings) -> None:
    best = last(search(bowl, start, T, 100)).best
    assert best.sampler == "ddpm"
    assert 9 <= best.steps <= 11
    assert abs(best.guidance_scale - 1.6) < 0.03
    assert abs(best.spacing - 1.75) < 0.07
    assert 0.4 <= guided_share(best) <= 0.6


def test_the_share_of_noise_is_found() -> None:
    def likes_some(settings: SamplingSettings, *_: object) -> float:
        return abs(settings.eta - 0.55) if settings.sampler == "dpmpp-sde" else 2.0

    best = last(search(likes_some, SamplingSettings("ddim", 8), T, 8)).best
    assert best.sampler == "dpmpp-sde"
    assert abs(best.eta - 0.55) < 0.05


def test_guidance_is_found_from_settings_without_it() -> None:
    def likes_one_guided_step(settings: SamplingSettings, *_: object) -> float:
        return abs(guided_share(settings) * settings.steps - 1) + 0.01 * settings.steps

    best = last(search(likes_one_guided_step, SamplingSettings("ddpm", 8), T, 8)).best
    assert round(guided_share(best) * best.steps) == 1
    assert best.steps < 8


def guided_from(first: int, last: int, steps: int = 8) -> SamplingSettings:
    plan = step_plan(T, steps, 1.0)
    return SamplingSettings("ddim", steps, 1.5, (plan[last][1] + 1, plan[first][0]))


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (2, 4, {(4, 4), (2, 2), (0, 4), (2, 6), (4, 6), (0, 2)}),
        (0, 2, {(2, 2), (0, 0), (0, 4), (2, 4)}),
        (6, 7, {(4, 7), (4, 5)}),
        (1, 6, {(3, 6), (1, 4), (0, 6), (1, 7), (3, 7), (0, 4)}),
        (2, 7, {(4, 7), (2, 5), (0, 7), (0, 5)}),
    ],
)
def test_guided_steps_begin_and_end_a_quarter_of_all_earlier_or_later(
    first: int, last: int, expected: set[tuple[int, int]]
) -> None:
    start = guided_from(first, last)
    plan = step_plan(T, start.steps, start.spacing)

    def likes_the_start(settings: SamplingSettings, *_: object) -> float:
        return 0.0 if settings == start else 1.0

    found = set()
    for trial in search(likes_the_start, start, T, 100):
        settings = trial.settings
        if trial.pictures > 1000 or settings == start:
            continue
        if settings == replace(start, guidance_interval=settings.guidance_interval):
            guided = [step for step, (t, _) in enumerate(plan) if settings.guidance_at(t) != 1]
            assert guided == list(range(guided[0], guided[-1] + 1))
            assert (settings.guidance_interval is None) == (len(guided) == len(plan))
            found.add((guided[0], guided[-1]))
    assert found == expected


def test_guidance_that_applies_at_no_step_or_costs_too_much_is_left_out() -> None:
    for start, most in (
        (SamplingSettings("ddim", 4, 1.5, (1, 2)), 8),  # between two of the timesteps
        (SamplingSettings("ddim", 3, 1.5), 1),
    ):
        first = next(search(bowl, start, T, most))
        assert first.settings.guidance_scale == 1
        assert first.settings.guidance_interval is None
        assert count_evaluations(first.settings, T) == min(start.steps, most)


@pytest.mark.long
@given(
    steps=st.integers(1, 60),
    scale=st.sampled_from([0.0, 1.0, 1.2, 4.0, 100.0]),
    interval=st.none() | st.tuples(st.integers(0, 150), st.integers(150, 299)),
    spacing=st.floats(0.5, 3.0),
    most=st.integers(1, 40),
    choice=st.integers(0, 2**32),
)
def test_no_trial_costs_more_than_allowed_or_is_made_twice(
    steps: int,
    scale: float,
    interval: tuple[int, int] | None,
    spacing: float,
    most: int,
    choice: int,
) -> None:
    start = SamplingSettings("dpmpp", steps, scale, interval, spacing)
    seen: dict[int, dict[SamplingSettings, float]] = {}

    def noisy(settings: SamplingSettings, _pictures: int, seed: int, _: Interrupted) -> float:
        # Not hash(), which is another one in every process.
        return zlib.crc32(repr((settings, seed, choice)).encode()) % 1000

    for trial in search(noisy, start, T, most):
        assert count_evaluations(trial.settings, T) <= most
        level = seen.setdefault(trial.pictures, {})
        assert trial.settings not in level
        level[trial.settings] = trial.distance
        assert level[trial.best] == min(level.values())
    assert list(seen) == [1000, 2000, 4000, 8000]


def test_what_other_pictures_do_not_confirm_does_not_stay() -> None:
    start = SamplingSettings("ddim", 10)
    searched: set[int] = set()

    def few_steps(settings: SamplingSettings, *_: object) -> float:
        return 1.0 if settings.steps < 10 else 2.0 if settings == start else 3.0

    def by_chance(settings: SamplingSettings, pictures: int, seed: int, _: Interrupted) -> float:
        """Likes few steps in every picture but those that the search does not see."""
        if pictures == 8000 and len(searched) == 4 and seed not in searched:
            return 2.0 if settings == start else 2.5
        searched.add(seed)
        return few_steps(settings)

    found = tune(by_chance, start, T, 10, seconds=60)
    assert found.after == found.before == (start, 2.0)
    kept = tune(few_steps, start, T, 10, seconds=60)
    assert kept.after.settings.steps < 10
    assert (kept.before.distance, kept.after.distance, kept.pictures) == (2.0, 1.0, 8000)


def test_the_search_ends_with_its_time() -> None:
    shares: list[float] = []
    start = SamplingSettings("dpmpp", 16)
    found = tune(bowl, start, T, 100, 1e-9, lambda share, _: shares.append(share))
    assert (found.trials, shares, found.pictures) == (1, [1.0], 1000)
    assert found.after == found.before == (start, bowl(start))


def test_an_interrupted_search_is_compared_as_one_that_is_over() -> None:
    start, trials = SamplingSettings("dpmpp", 16), []
    asked = iter([False, False, False, True])
    found = tune(bowl, start, T, 100, 60, lambda _, trial: trials.append(trial), asked.__next__)
    assert found.trials == len(trials) == 4
    assert found.before == (start, bowl(start))
    assert found.after == (trials[-1].best, bowl(trials[-1].best))
    assert found.after.distance < found.before.distance


def test_few_pictures_are_compared_after_an_interruption() -> None:
    drawn: list[int] = []

    def counted(settings: SamplingSettings, pictures: int, *_: object) -> float:
        drawn.append(pictures)
        return bowl(settings)

    start = SamplingSettings("dpmpp", 16)
    found = tune(counted, start, T, 100, 60, interrupted=lambda: drawn[-1] == 4000)
    assert found.pictures == 1000
    assert drawn[-3:] == [4000, 1000, 1000]


def test_a_trial_is_cancelled_and_what_was_found_is_compared() -> None:
    asked: list[SamplingSettings] = []

    def cancelled(settings: SamplingSettings, _p: int, _s: int, interrupted: Interrupted) -> float:
        asked.append(settings)
        if interrupted():
            raise CancelledError
        return bowl(settings)

    start = SamplingSettings("dpmpp", 16)
    found = tune(cancelled, start, T, 100, 60, interrupted=lambda: len(asked) >= 6)
    # Only two more, to compare: they are drawn to their end.
    assert asked[6:] == [start, found.after.settings]
    assert (found.trials, found.pictures) == (5, 1000)
    assert found.after.distance < found.before.distance == bowl(start)


def test_before_the_first_trial_nothing_is_found() -> None:
    def cancelled(*_: object) -> float:
        raise CancelledError

    with pytest.raises(CancelledError):
        tune(cancelled, SamplingSettings("ddim", 4), T, 8, 60)


def test_nothing_is_drawn_to_compare_settings_with_themselves() -> None:
    drawn: list[SamplingSettings] = []

    def first_is_best(settings: SamplingSettings, *_: object) -> float:
        drawn.append(settings)
        return float(len(drawn))

    start = SamplingSettings("dpmpp", 16)
    found = tune(first_is_best, start, T, 100, 60, interrupted=lambda: len(drawn) == 7)
    assert found.before == found.after == (start, 1.0)
    assert (len(drawn), found.trials, found.pictures) == (7, 7, 1000)


def test_of_many_training_images_a_share_of_each_label_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bars(300, seed=1)
    network = train_features("main", data, data, torch.device("cpu"), seed=0, epochs=1)[1]
    model = Model(
        replace(tiny.description(), class_names=NAMES), tiny.denoiser(), tmp_path / "a.safetensors"
    )
    monkeypatch.setattr(tuning, "_MOST_READ", 100)
    settings = SamplingSettings("ddim", 2)
    found = DrawnDistance(model, data, network)(settings, 90, 7)
    drawn = fit_gaussian(
        read_images(network, draw_samples(model, data, 90, 7, settings).images).features
    )
    some = data.images[proportional_subset(data.labels, 100, seed=0)]
    expected, of_all = (
        frechet_distance(drawn, fit_gaussian(read_images(network, images).features))
        for images in (some, data.images)
    )
    assert found == pytest.approx(expected, rel=1e-6)
    assert found != pytest.approx(of_all, rel=1e-3)


def test_the_distance_is_that_of_pictures_drawn_as_the_settings_say(tmp_path: Path) -> None:
    data = bars(300, seed=1)
    network = train_features("main", data, data, torch.device("cpu"), seed=0, epochs=10)[1]
    description = replace(tiny.description(), class_names=NAMES)
    model = Model(description, tiny.denoiser(), tmp_path / "a.safetensors")
    distance = DrawnDistance(model, data, network)
    reference = fit_gaussian(read_images(network, data.images).features)
    found = []
    for settings in (SamplingSettings("ddim", 2), SamplingSettings("ddim", 3, 1.5)):
        drawn = draw_samples(model, data, 90, 7, settings).images
        expected = frechet_distance(fit_gaussian(read_images(network, drawn).features), reference)
        found.append(distance(settings, 90, 7))
        assert found[-1] == pytest.approx(expected, rel=1e-6)
    assert found[0] != pytest.approx(found[1], rel=0.01)
    with pytest.raises(CancelledError):
        distance(settings, 90, 7, lambda: True)
