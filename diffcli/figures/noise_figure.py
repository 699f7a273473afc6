"""The figure of the forward process: pictures, histograms, and curves of the schedules."""

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy

from PIL import Image

from diffcli.charts.arrange import at_least, beside, enlarged, padded, stack, wrapped
from diffcli.charts.chart import Chart
from diffcli.charts.colours import BARS, INK, MUTED, SERIES
from diffcli.charts.scales import Scale
from diffcli.charts.text import LARGE, NORMAL, SMALL, formula, line, paragraph
from diffcli.core.schedule import NoiseSchedule
from diffcli.figures.noise_data import (
    HISTOGRAM_BINS,
    HISTOGRAM_RANGE,
    ForwardProcess,
    Noised,
    Noising,
    Reconstruction,
    Values,
)

_GAP, _MARGIN = 20, 24
_CELL, _HISTOGRAM, _CHART = 212, 104, 300
_LEAST_WIDTH, _MOST_WIDTH, _FRAME_WIDTH = 1040, 1420, 520
_READABLE_SIDE = 200
"""Smaller pictures are shown enlarged, every pixel a square of whole pixels."""

_TOO_MUCH_SIGNAL = 0.05
"""Lin et al. 2024 explain washed-out samples by schedules that end at an amplitude of 0.068."""


def noise_figure(name: str, noising: Noising, processes: Sequence[ForwardProcess]) -> Image.Image:
    """The whole figure.

    Args:
        name: of the picture.
        noising: the picture and the noise.
        processes: one or several, all of as many timesteps.
    """
    original = _cell(["x{0}", "the picture, from −1 to 1"], noising.original)
    noise = _cell(["ε", f"noise, N(0, 1), seed {noising.seed}"], noising.noise)
    columns = max(3, (_MOST_WIDTH + _GAP) // (original.width + _GAP))
    body: list[Image.Image] = []
    if len(processes) == 1 and len(processes[0].steps) + 2 <= columns:
        cells = [original, noise, *map(_step_cell, processes[0].steps)]
        body += [beside(cells, _GAP), _remark(processes[0])]
    else:
        body.append(beside([original, noise], _GAP))
        for process in processes:
            cells = [*map(_step_cell, process.steps)]
            body += [line(process.name, LARGE), wrapped(cells, columns, _GAP), _remark(process)]
    width = max(_LEAST_WIDTH, *(part.width for part in body))
    marks = [step.t for step in processes[0].steps]
    head = [
        paragraph(f"{name} turns into noise", width, LARGE),
        formula(
            "x{t} = √ᾱ{t} · x{0} + √(1 − ᾱ{t}) · ε,      ᾱ{t} = (1 − β{0}) · … · (1 − β{t}),      "
            "SNR = ᾱ{t} / (1 − ᾱ{t})"
        ),
    ]
    return padded(stack([*head, *body, _charts(processes, width, marks)], 14), _MARGIN)


def animation(
    noising: Noising, schedules: Mapping[str, NoiseSchedule], count: int
) -> Iterator[Image.Image]:
    """The forward process in ``count`` frames: pictures under each schedule, above their curves.

    Args:
        noising: the picture and the noise.
        schedules: by name, all of as many timesteps.
        count: number of frames; at least 2.
    """
    processes = [noising.process(name, schedule, []) for name, schedule in schedules.items()]
    last = len(processes[0].alphas_cumprod) - 1
    unmarked: Chart | None = None
    for index in range(count):
        t = round(index * last / (count - 1))
        cells = [
            stack([line(name), _step_cell(noising.at(schedule, t))], 4, "centre")
            for name, schedule in schedules.items()
        ]
        row = beside(cells, _GAP)
        unmarked = unmarked or _level_chart(processes, (max(_FRAME_WIDTH, row.width), _CHART))
        chart = deepcopy(unmarked)
        chart.mark([t])
        yield padded(stack([row, chart.picture], 14, "centre"), _MARGIN)


def _charts(processes: Sequence[ForwardProcess], width: int, marks: Sequence[int]) -> Image.Image:
    size = ((width - _GAP) // 2, _CHART)
    charts = [_level_chart(processes, size), _log_snr_chart(processes, size)]
    for chart in charts:
        chart.mark(marks)
    return beside([chart.picture for chart in charts], _GAP)


def _level_chart(processes: Sequence[ForwardProcess], size: tuple[int, int]) -> Chart:
    """alphas_cumprod over t; for a single schedule, the two amplitudes too."""
    t = range(len(processes[0].alphas_cumprod))
    if len(processes) == 1:
        alphas_cumprod = processes[0].alphas_cumprod
        curves = {
            "ᾱ": alphas_cumprod,
            "signal = √ᾱ": [math.sqrt(a) for a in alphas_cumprod],
            "noise σ = √(1 − ᾱ)": [math.sqrt(1 - a) for a in alphas_cumprod],
        }
        title = f"Signal and noise: {processes[0].name}"
    else:
        curves = {process.name: process.alphas_cumprod for process in processes}
        title = "ᾱ: the share of the picture's power in x"
    return _chart_over_t(size, t, Scale(0, 1), title, curves)


def _log_snr_chart(processes: Sequence[ForwardProcess], size: tuple[int, int]) -> Chart:
    curves = {
        process.name: [math.log(a) - math.log1p(-a) for a in process.alphas_cumprod]
        for process in processes
    }
    lowest = math.floor(min(min(values) for values in curves.values()))
    highest = max(lowest + 1, math.ceil(max(max(values) for values in curves.values())))
    t = range(len(processes[0].alphas_cumprod))
    title = "log-SNR = ln SNR: above 0 there is more signal than noise"
    return _chart_over_t(size, t, Scale(lowest, highest), title, curves)


def _chart_over_t(
    size: tuple[int, int], t: range, y: Scale, title: str, curves: Mapping[str, Sequence[float]]
) -> Chart:
    colours = dict(zip(curves, SERIES, strict=False))
    chart = Chart(
        size,
        Scale.of_cells(len(t)),
        y,
        title=title,
        x_label="timestep t",
        legend=[*colours.items()],
        marked=True,
    )
    for name, values in curves.items():
        chart.curve(t, values, colours[name])
        if len(t) == 1:
            chart.dots(t, values, colours[name])
    return chart


def remark(process: ForwardProcess) -> str:
    """How much of the picture is left at the last timestep, and whether that is too much."""
    alphas_cumprod = process.alphas_cumprod[-1]
    left = math.sqrt(alphas_cumprod)
    text = (
        f"At the last timestep, t = {len(process.alphas_cumprod) - 1}, {100 * left:.3g} % of the "
        f"picture's amplitude is left (ᾱ = {alphas_cumprod:.3g}); its distribution is "
        f"{process.prior_kl:.3g} nats from N(0, 1)."
    )
    if left > _TOO_MUCH_SIGNAL:
        return (
            f"{text} That is too much: sampling starts from pure noise, which a network trained "
            "on this schedule has never seen."
        )
    return f"{text} That is close enough to the pure noise that sampling starts from."


def _remark(process: ForwardProcess) -> Image.Image:
    return paragraph(remark(process), _LEAST_WIDTH, NORMAL, MUTED)


def _step_cell(step: Noised) -> Image.Image:
    captions = [
        f"t = {step.t}",
        f"x{{t}} = {step.alpha:.3f} x{{0}} + {step.sigma:.3f} ε",
        f"ᾱ = {step.alphas_cumprod:.3g}, SNR = {step.snr:.3g}",
    ]
    parts = [_cell(captions, step.values)]
    if step.estimate:
        parts.append(_reconstruction("x{0} estimated in one step", step.estimate))
    if step.denoised:
        parts.append(_reconstruction("x{0} denoised in many steps", step.denoised))
    return stack(parts, 8, "centre")


def _reconstruction(caption: str, found: Reconstruction) -> Image.Image:
    texts = [formula(caption, SMALL), line(f"mean squared error {found.mse:.2g}", SMALL, MUTED)]
    return stack([*texts, enlarged(found.picture, _READABLE_SIDE)], 0, "centre")


def _cell(captions: Sequence[str], values: Values) -> Image.Image:
    lines = [
        formula(caption, SMALL if index else NORMAL, MUTED if index == 2 else INK)
        for index, caption in enumerate([*captions, *[""] * (3 - len(captions))])
    ]
    picture = enlarged(values.picture, _READABLE_SIDE)
    parts = [*lines, picture, _histogram(values, max(_CELL, picture.width))]
    return at_least(stack(parts, 2, "centre"), _CELL, "centre")


def _histogram(values: Values, width: int) -> Image.Image:
    """The histogram of values, and the density of N(0, 1); higher peaks are cut off."""
    low, high = HISTOGRAM_RANGE
    edges = [low + (high - low) * index / HISTOGRAM_BINS for index in range(HISTOGRAM_BINS + 1)]
    chart = Chart((width, _HISTOGRAM), Scale(low, high), Scale(0, 0.8), y_ticks=False)
    chart.bars(edges, values.density, BARS)
    normal = [math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in edges]
    chart.curve(edges, normal, SERIES[1], 1.5)
    return chart.picture
