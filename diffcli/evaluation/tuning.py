"""The search for the settings with which a model draws most like its data."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol

from diffcli.core.generate import count_evaluations
from diffcli.core.parameters import MAX_GUIDANCE_SCALE, SamplerName, SamplingSettings
from diffcli.core.schedule import StepPlan, step_plan
from diffcli.data.images import LabelledImages, proportional_subset
from diffcli.evaluation.frechet import fit_gaussian, frechet_distance
from diffcli.evaluation.network import FeatureNetwork, OnProgress, read_images
from diffcli.evaluation.samples import draw_samples
from diffcli.sampling.model import Model

Interrupted = Callable[[], bool]
"""Whether the user wants the work to end."""


class CancelledError(Exception):
    """A trial was interrupted."""


class Distance(Protocol):
    """How far pictures are from the data."""

    def __call__(
        self, settings: SamplingSettings, pictures: int, seed: int, interrupted: Interrupted, /
    ) -> float:
        """The distance of so many pictures that are drawn with these settings.

        Args:
            settings: how to draw.
            pictures: how many.
            seed: of the first one; the next one has ``seed + 1``.
            interrupted: may be called while pictures are drawn.

        Raises:
            CancelledError: if ``interrupted`` was true.
        """


def _never() -> bool:
    return False


# Fewer say little: of digits that are as close to others as real ones are, 500 have a distance of
# 0.02 to 0.04, 1,000 one of 0.01 to 0.02.
_FEWEST_PICTURES = 1000
# Pictures of one level are not those of another: what suits the ones by chance does not stay.
_SEEDS_PER_LEVEL = 1_000_000
# Each level has twice as many pictures as the one before, and half its changes.
_CHANGES = (1.0, 0.5, 0.25, 0.125)
_SEED_OF_COMPARISON = _SEEDS_PER_LEVEL * (len(_CHANGES) + 1)

_SCALE, _SCALE_OF_ONE_STEP, _SPACING, _ETA = 0.2, 1.5, 0.5, 0.3
_SPACINGS = (0.5, 3.0)
_SAMPLERS: tuple[SamplerName, ...] = ("dpmpp-sde", "ddpm", "dpmpp", "ddim")

_MOST_READ = 20_000


class Trial(NamedTuple):
    """Settings that were tried.

    Args:
        settings: how pictures were drawn.
        pictures: how many.
        distance: how far they are from the data.
        best: the best settings so far.
    """

    settings: SamplingSettings
    pictures: int
    distance: float
    best: SamplingSettings


def search(
    distance: Distance,
    start: SamplingSettings,
    num_timesteps: int,
    most_evaluations: int,
    interrupted: Interrupted = _never,
) -> Iterator[Trial]:
    """Search settings by changing one after the other (pattern search, Hooke & Jeeves 1961).

    A change that brings pictures closer to the data is kept.  When none does, the search goes on
    with half the changes and twice as many other pictures, and ends after the fourth such level.
    All settings of a level draw the same labels from the same seeds, so that small differences
    count.

    Args:
        distance: judges settings.
        start: to begin with; fewer steps if these need more than ``most_evaluations``.
        num_timesteps: T of the model.
        most_evaluations: of the network for a picture.
        interrupted: see ``Distance``.

    Yields:
        What was tried, and the best so far.

    Raises:
        CancelledError: if a trial was interrupted.
    """
    best = _within(start, num_timesteps, most_evaluations)
    for level, change in enumerate(_CHANGES):
        pictures, seed = _FEWEST_PICTURES * 2**level, _SEEDS_PER_LEVEL * (level + 1)
        least = distance(best, pictures, seed, interrupted)
        yield Trial(best, pictures, least, best)
        tried = {best}
        pending = _neighbours(best, num_timesteps, change)
        while (changed := next(pending, None)) is not None:
            settings = _within(changed, num_timesteps, most_evaluations)
            if settings in tried:
                continue
            tried.add(settings)
            found = distance(settings, pictures, seed, interrupted)
            if found < least:
                best, least = settings, found
                pending = _neighbours(best, num_timesteps, change)
            yield Trial(settings, pictures, found, best)


class Judged(NamedTuple):
    """Settings and how far their pictures are from the data."""

    settings: SamplingSettings
    distance: float


class Tuning(NamedTuple):
    """The result of a search.

    Args:
        before: the settings that it began with.
        after: the best ones, which may be the same.
        pictures: how many of each these distances are of.  If there is a choice to make, the
            search had drawn none of them.
        trials: how many settings were tried.
    """

    before: Judged
    after: Judged
    pictures: int
    trials: int


def tune(
    distance: Distance,
    start: SamplingSettings,
    num_timesteps: int,
    most_evaluations: int,
    seconds: float,
    on_trial: Callable[[float, Trial], None] | None = None,
    interrupted: Interrupted = _never,
) -> Tuning:
    """Search for some time, then compare the best settings with the first ones by new pictures.

    The first ones stay if that does not confirm the best ones.  After an interruption, few pictures
    compare them, because the user waits for the end, and none if the first ones are the best.

    Args:
        distance: see ``search``, like the next three.
        start: to begin with.
        num_timesteps: T of the model.
        most_evaluations: of the network for a picture.
        seconds: to search for; the last trial ends after them.
        on_trial: called with the share of the time that is over, and every trial.
        interrupted: called after every trial and while pictures are drawn; if true, the search
            ends.

    Raises:
        CancelledError: if it was interrupted before anything was tried.
    """
    began, trials, stopped = time.perf_counter(), [], False
    try:
        for trial in search(distance, start, num_timesteps, most_evaluations, interrupted):
            trials.append(trial)
            share = (time.perf_counter() - began) / seconds
            if on_trial:
                on_trial(min(share, 1.0), trial)
            stopped = interrupted()
            if share >= 1 or stopped:
                break
    except CancelledError:
        if not trials:
            raise
        stopped = True
    start, best = trials[0].settings, trials[-1].best
    if best == start:
        newest = next(trial for trial in reversed(trials) if trial.settings == start)
        same = Judged(start, newest.distance)
        return Tuning(same, same, newest.pictures, len(trials))
    pictures = _FEWEST_PICTURES if stopped else trials[-1].pictures
    before, found = (
        Judged(settings, distance(settings, pictures, _SEED_OF_COMPARISON, _never))
        for settings in (start, best)
    )
    after = min(before, found, key=lambda judged: judged.distance)
    return Tuning(before, after, pictures, len(trials))


class DrawnDistance:
    """The Frechet distance of drawn pictures to training images, see ``Distance``.

    Args:
        model: to draw with.
        data: the training images.
        network: the feature network.
        on_progress: called with the number of training images that are read.
    """

    def __init__(
        self,
        model: Model,
        data: LabelledImages,
        network: FeatureNetwork,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._model, self._data, self._network = model, data, network
        read = data.images
        if len(read) > _MOST_READ:
            read = read[proportional_subset(data.labels, _MOST_READ, seed=0)]
        self._reference = fit_gaussian(read_images(network, read, on_progress).features)

    def __call__(
        self,
        settings: SamplingSettings,
        pictures: int,
        seed: int,
        interrupted: Interrupted = _never,
    ) -> float:
        """See ``Distance``; ``interrupted`` is called after every batch."""

        def check(_done: int, _total: int) -> None:
            if interrupted():
                raise CancelledError

        drawn = draw_samples(self._model, self._data, pictures, seed, settings, check)
        features = read_images(self._network, drawn.images).features
        return frechet_distance(fit_gaussian(features), self._reference)


def _neighbours(
    settings: SamplingSettings, num_timesteps: int, change: float
) -> Iterator[SamplingSettings]:
    """Settings that differ in one, by ``change`` in 0 .. 1; what has most effect comes first."""
    plan = step_plan(num_timesteps, settings.steps, settings.spacing)
    guided = [step for step, (t, _) in enumerate(plan) if settings.guidance_at(t) != 1]
    some = max(1, round(change * settings.steps / 4))
    for sign in (1, -1):
        yield _scaled(settings, settings.guidance_scale + sign * change * _SCALE)
    for steps in (settings.steps + some, settings.steps - some):
        yield replace(settings, steps=min(max(steps, 1), num_timesteps))
    for sign in (1, -1):
        spacing = settings.spacing + sign * change * _SPACING
        yield replace(settings, spacing=min(max(spacing, _SPACINGS[0]), _SPACINGS[1]))
    if settings.sampler == "dpmpp-sde":
        for sign in (-1, 1):
            eta = settings.eta + sign * change * _ETA
            yield replace(settings, eta=round(min(max(eta, 0), 1), 3))
    if guided:
        first, last = guided[0], guided[-1]
        for earlier, later in ((1, 0), (0, -1), (-1, 0), (0, 1), (1, 1), (-1, -1)):
            yield _guided(settings, plan, first + earlier * some, last + later * some)
    elif change == _CHANGES[0]:
        strong = replace(settings, guidance_scale=_SCALE_OF_ONE_STEP)
        for step in range(len(plan)):
            yield _guided(strong, plan, step, step)
    if change == _CHANGES[0]:
        for sampler in _SAMPLERS:
            yield replace(settings, sampler=sampler)


def _scaled(settings: SamplingSettings, scale: float) -> SamplingSettings:
    return replace(settings, guidance_scale=round(min(max(scale, 1), MAX_GUIDANCE_SCALE), 3))


def _guided(settings: SamplingSettings, plan: StepPlan, first: int, last: int) -> SamplingSettings:
    """The same with guidance at the steps ``first .. last`` of a plan, as far as it has them."""
    first, last = max(first, 0), min(last, len(plan) - 1)
    if first > last:
        return settings
    # All timesteps that these steps pass, so that those of another plan fall into it as well.
    interval = (plan[last][1] + 1, plan[first][0])
    return replace(settings, guidance_interval=None if len(plan) == last - first + 1 else interval)


def _within(
    settings: SamplingSettings, num_timesteps: int, most_evaluations: int
) -> SamplingSettings:
    """The same with as many steps as evaluations allow, and guidance only if it applies at one."""
    while count_evaluations(settings, num_timesteps) > most_evaluations:
        if settings.steps == 1:
            return _unguided(settings)
        settings = replace(settings, steps=settings.steps - 1)
    plan = step_plan(num_timesteps, settings.steps, settings.spacing)
    if all(settings.guidance_at(t) == 1 for t, _ in plan):
        return _unguided(settings)
    return settings


def _unguided(settings: SamplingSettings) -> SamplingSettings:
    return replace(settings, guidance_scale=1.0, guidance_interval=None)
