"""The figure of the forward process: pictures, histograms, and the curves of the schedules."""

import math
from collections.abc import Iterator, Mapping, Sequence

from PIL import Image

from diffcli.core.schedule import NoiseSchedule
from diffcli.drawing.chart import Chart
from diffcli.drawing.colours import BARS, INK, MUTED, SERIES
from diffcli.drawing.layout import at_least, beside, framed, padded, stack, wrapped
from diffcli.drawing.scales import Scale
from diffcli.drawing.text import LARGE, NORMAL, SMALL, formula, line, paragraph
from diffcli.figures.noising import (
    HISTOGRAM_BINS,
    HISTOGRAM_RANGE,
    Noised,
    Noising,
    Process,
    Recovered,
    Shown,
)

_GAP, _MARGIN = 20, 24
_CELL, _HISTOGRAM, _CHART = 212, 104, 300
_LEAST_WIDTH, _MOST_WIDTH, _FRAME_WIDTH = 1040, 1420, 520
_READABLE_SIDE = 200
"""Smaller pictures are shown enlarged, every pixel a square of whole pixels."""

_TOO_MUCH_SIGNAL = 0.05
"""Lin et al. 2024 trace washed-out samples to schedules that end at an amplitude of 0.068."""


def noise_figure(name: str, noising: Noising, processes: Sequence[Process]) -> Image.Image:
    """The whole figure.

    Args:
        name: of the picture.
        noising: the picture and the noise.
        processes: one or several, all of as many timesteps.
    """
    original = _cell(["x{0}", "the picture, from -1 to 1"], noising.original)
    noise = _cell(["epsilon", f"noise, N(0, 1), seed {noising.seed}"], noising.noise)
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
            "x{t} = sqrt(alpha_bar{t}) · x{0} + sqrt(1 - alpha_bar{t}) · epsilon,     "
            "alpha_bar{t} = (1 - beta{0}) · … · (1 - beta{t}),     "
            "SNR = alpha_bar / (1 - alpha_bar)"
        ),
    ]
    return padded(stack([*head, *body, _charts(processes, width, marks)], 14), _MARGIN)


def animation(
    noising: Noising, schedules: Mapping[str, NoiseSchedule], count: int
) -> Iterator[Image.Image]:
    """The way to noise as ``count`` pictures, the schedules beside each other over their curves.

    Args:
        noising: the picture and the noise.
        schedules: by name, all of as many timesteps.
        count: how many pictures; 2 at least.
    """
    processes = [noising.process(name, schedule, []) for name, schedule in schedules.items()]
    last = len(processes[0].alphas_cumprod) - 1
    for index in range(count):
        t = round(index * last / (count - 1))
        cells = [
            stack([line(name), _step_cell(noising.at(schedule, t))], 4, "centre")
            for name, schedule in schedules.items()
        ]
        row = beside(cells, _GAP)
        chart = _level_chart(processes, (max(_FRAME_WIDTH, row.width), _CHART))
        chart.mark([t])
        yield padded(stack([row, chart.picture], 14, "centre"), _MARGIN)


def _charts(processes: Sequence[Process], width: int, marks: Sequence[int]) -> Image.Image:
    size = ((width - _GAP) // 2, _CHART)
    charts = [_level_chart(processes, size), _log_snr_chart(processes, size)]
    for chart in charts:
        chart.mark(marks)
    return beside([chart.picture for chart in charts], _GAP)


def _level_chart(processes: Sequence[Process], size: tuple[int, int]) -> Chart:
    """alpha_bar over t; of a schedule alone, the two amplitudes too."""
    t = range(len(processes[0].alphas_cumprod))
    if len(processes) == 1:
        alpha_bar = processes[0].alphas_cumprod
        curves = {
            "alpha_bar": alpha_bar,
            "signal = sqrt(alpha_bar)": [math.sqrt(a) for a in alpha_bar],
            "noise = sqrt(1 - alpha_bar)": [math.sqrt(1 - a) for a in alpha_bar],
        }
        title = f"How much signal, and how much noise: {processes[0].name}"
    else:
        curves = {process.name: process.alphas_cumprod for process in processes}
        title = "alpha_bar: the share of the picture's power that is left"
    return _chart_over_t(size, t, Scale(0, 1), title, curves)


def _log_snr_chart(processes: Sequence[Process], size: tuple[int, int]) -> Chart:
    curves = {
        process.name: [math.log(a) - math.log1p(-a) for a in process.alphas_cumprod]
        for process in processes
    }
    lowest = math.floor(min(min(values) for values in curves.values()))
    highest = math.ceil(max(max(values) for values in curves.values()))
    t = range(len(processes[0].alphas_cumprod))
    title = "log-SNR = ln(SNR): above 0 there is more signal than noise"
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


def remark(process: Process) -> str:
    """What is left of the picture at the last timestep, and whether that is too much."""
    alpha_bar = process.alphas_cumprod[-1]
    left = math.sqrt(alpha_bar)
    text = (
        f"At the end, t = {len(process.alphas_cumprod) - 1}, {100 * left:.3g} % of the picture's "
        f"amplitude is left (alpha_bar = {alpha_bar:.3g}), and its distribution is "
        f"{process.mismatch:.3g} nats from N(0, 1)."
    )
    if left > _TOO_MUCH_SIGNAL:
        return (
            f"{text} That is too much: sampling starts from pure noise, which a network trained "
            "on this schedule has never seen."
        )
    return f"{text} That is as good as pure noise, which sampling starts from."


def _remark(process: Process) -> Image.Image:
    return paragraph(remark(process), _LEAST_WIDTH, NORMAL, MUTED)


def _enlarged(picture: Image.Image) -> Image.Image:
    factor = max(1, _READABLE_SIDE // max(picture.size))
    size = (picture.width * factor, picture.height * factor)
    return framed(picture.resize(size, Image.Resampling.NEAREST))


def _step_cell(step: Noised) -> Image.Image:
    captions = [
        f"t = {step.t}",
        f"x{{t}} = {step.signal:.3f} x{{0}} + {step.noise:.3f} epsilon",
        f"alpha_bar {step.alpha_bar:.3g}, SNR {step.snr:.3g}",
    ]
    parts = [_cell(captions, step.shown)]
    if step.estimate:
        parts.append(_recovered("x{0} estimated in one step", step.estimate))
    if step.denoised:
        parts.append(_recovered("x{0} denoised from here", step.denoised))
    return stack(parts, 8, "centre")


def _recovered(caption: str, recovered: Recovered) -> Image.Image:
    texts = [formula(caption, SMALL), line(f"mean squared error {recovered.mse:.2g}", SMALL, MUTED)]
    return stack([*texts, _enlarged(recovered.picture)], 0, "centre")


def _cell(captions: Sequence[str], shown: Shown) -> Image.Image:
    lines = [
        formula(caption, SMALL if index else NORMAL, MUTED if index == 2 else INK)
        for index, caption in enumerate([*captions, *[""] * (3 - len(captions))])
    ]
    picture = _enlarged(shown.picture)
    parts = [*lines, picture, _histogram(shown, max(_CELL, picture.width))]
    return at_least(stack(parts, 2, "centre"), _CELL, "centre")


def _histogram(shown: Shown, width: int) -> Image.Image:
    """The values against the density of N(0, 1); peaks above the frame are cut off."""
    low, high = HISTOGRAM_RANGE
    edges = [low + (high - low) * index / HISTOGRAM_BINS for index in range(HISTOGRAM_BINS + 1)]
    chart = Chart((width, _HISTOGRAM), Scale(low, high), Scale(0, 0.8), y_ticks=False)
    chart.bars(edges, shown.density, BARS)
    normal = [math.exp(-x * x / 2) / math.sqrt(2 * math.pi) for x in edges]
    chart.curve(edges, normal, SERIES[1], 1.5)
    return chart.picture
