"""The figure of the timestep embedding, and of what a network learned of it."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from diffcli.charts.arrange import at_least, beside, padded, stack
from diffcli.charts.chart import Chart
from diffcli.charts.colours import DIVERGING, MUTED, SEQUENTIAL, SERIES, SHADE, ColourMap
from diffcli.charts.heat import colour_bar, heat_map, matrix, sampled
from diffcli.charts.scales import Scale
from diffcli.charts.text import LARGE, NORMAL, formula, line, paragraph
from diffcli.figures.embedding_data import Array, Embedding, LearnedEmbedding, distances

_WIDTH, _GAP, _MARGIN = 1180, 28, 24
_WIDE, _SQUARE, _GUTTER = 660, 430, 64
_TALL, _LOW = 390, 280
_LEFT_COLUMN = _WIDE + 62

_EMBEDDINGS_CHANGE_LITTLE = (
    "The embeddings themselves are random at first, almost orthogonal, and training changes them "
    "little: the layers of the blocks learn to use them."
)


def shown_timesteps(num_timesteps: int) -> list[int]:
    """All timesteps, or as many as the figure has pixels for."""
    return sampled(num_timesteps, _WIDE)


def embedding_figure(
    embedding: Embedding, chosen: Sequence[int] = (), learned: LearnedEmbedding | None = None
) -> Image.Image:
    """Heat map, similarity, curves and wavelengths; chosen timesteps; what a network learned.

    Args:
        embedding: the sinusoidal embedding.
        chosen: timesteps to show row by row.
        learned: what a network learned, at ``shown_timesteps``.
    """
    half = embedding.dim // 2
    ends, last = (embedding.wavelengths[0], embedding.wavelengths[-1]), f"{{{half - 1}}}"
    parts = [
        line(
            f"Sinusoidal timestep embedding: dim = {embedding.dim}, T = {embedding.num_timesteps}, "
            f"max_period = {embedding.max_period:g}",
            LARGE,
        ),
        formula(
            f"frequency{{i}} = exp(−i · ln({embedding.max_period:g}) / {max(half - 1, 1)}),  "
            f"i = {_span('0', str(half - 1))}        wavelength{{i}} = 2π / frequency{{i}} = "
            f"{_span(*map(_rounded, ends))} timesteps"
        ),
        formula(
            f"embedding(t) = [ {_span('sin(t · frequency{0})', f'sin(t · frequency{last})')},  "
            f"{_span('cos(t · frequency{0})', f'cos(t · frequency{last})')} ]"
        ),
        paragraph(embedding.completeness, _WIDTH, NORMAL, MUTED),
        _columns(_heat_map(embedding), _similarity(embedding)),
        _columns(_waves(embedding, chosen), _wavelengths(embedding)),
    ]
    if chosen:
        parts.append(_chosen_rows(embedding, chosen))
    if learned:
        parts += _learned(learned, embedding.num_timesteps)
    return padded(stack(parts, gap=10), _MARGIN)


def _columns(left: Image.Image, right: Image.Image) -> Image.Image:
    return beside([at_least(left, _LEFT_COLUMN), right], _GAP)


def _with_bar(chart: Chart, scale: Scale, colours: ColourMap) -> Image.Image:
    bar = colour_bar(chart.picture.height, chart.box, scale, colours)
    return beside([chart.picture, bar], gap=4)


def _heat_map(embedding: Embedding) -> Image.Image:
    return _time_map(
        embedding.rows(shown_timesteps(embedding.num_timesteps)),
        embedding.num_timesteps,
        Scale(-1, 1),
        "The embedding: one column per timestep, sines above, cosines below",
    )


def _time_map(rows: Array, num_timesteps: int, scale: Scale, title: str) -> Image.Image:
    dim = rows.shape[1]
    chart = Chart(
        (_WIDE, _TALL),
        Scale.of_cells(num_timesteps),
        Scale.of_cells(dim, downwards=True),
        title=title,
        x_label="timestep t",
        y_label="dimension",
        gutter=_GUTTER,
    )
    chart.cells(heat_map(rows[:, sampled(dim, _TALL)].T, scale, DIVERGING))
    return _with_bar(chart, scale, DIVERGING)


def _similarity(embedding: Embedding) -> Image.Image:
    steps = sampled(embedding.num_timesteps, _SQUARE)
    cosines = embedding.similarity(steps)
    return _similarity_map(cosines, embedding.num_timesteps, "Cosine similarity of two timesteps")


def _similarity_map(cosines: Array, num_timesteps: int, title: str) -> Image.Image:
    lowest = float(cosines.min())
    scale = Scale(math.floor(lowest * 10) / 10 if lowest < 0.95 else 0.0, 1)
    chart = Chart(
        (_SQUARE, _TALL),
        Scale.of_cells(num_timesteps),
        Scale.of_cells(num_timesteps, downwards=True),
        title=title,
        x_label="timestep",
        y_label="timestep",
        gutter=_GUTTER,
    )
    chart.cells(heat_map(cosines, scale, SEQUENTIAL))
    return _with_bar(chart, scale, SEQUENTIAL)


def _waves(embedding: Embedding, chosen: Sequence[int]) -> Image.Image:
    """Up to four sines, of wavelengths around T, which can be told apart."""
    total = embedding.num_timesteps
    wanted = np.array([total / 8, total / 3, total, 4 * total])
    ratios = np.log(embedding.wavelengths / wanted[:, None])
    pairs = sorted(set(np.abs(ratios).argmin(axis=1).tolist()))
    colours = dict(zip(pairs, SERIES, strict=False))
    chart = Chart(
        (_WIDE, _LOW),
        Scale.of_cells(total),
        Scale(-1.1, 1.1),
        title="Some dimensions as curves, with their wavelengths",
        x_label="timestep t",
        gutter=_GUTTER,
        legend=[(f"sin {i}: {_rounded(embedding.wavelengths[i])}", colours[i]) for i in pairs],
        marked=bool(chosen),
    )
    steps = sampled(total, 2 * _WIDE)
    for i in pairs:
        ys = np.sin(np.array(steps) * embedding.frequencies[i]).tolist()
        chart.curve(steps, ys, colours[i])
        if total <= 24:
            chart.dots(steps, ys, colours[i])
    chart.mark(chosen)
    return chart.picture


def _span(first: str, last: str) -> str:
    return first if first == last else f"{first} … {last}"


def _rounded(wavelength: float) -> str:
    return f"{wavelength:.2f}" if wavelength < 100 else f"{wavelength:,.0f}"


def _wavelengths(embedding: Embedding) -> Image.Image:
    half, total = embedding.dim // 2, embedding.num_timesteps
    ends = (min(embedding.wavelengths[0], total), max(embedding.wavelengths[-1], total))
    chart = Chart(
        (_SQUARE, _LOW),
        Scale.of_cells(half),
        Scale(ends[0] / 1.5, ends[1] * 1.5, log=True),
        title="Wavelength of each pair of sine and cosine, in timesteps",
        x_label="pair i; shaded: longer than T",
        gutter=_GUTTER,
    )
    if embedding.incomplete:
        chart.shade(embedding.incomplete[0] - 0.5, half - 0.5, SHADE)
    chart.level(total, f"T = {total}")
    chart.curve(range(half), embedding.wavelengths.tolist(), SERIES[0])
    if half <= 64:
        chart.dots(range(half), embedding.wavelengths.tolist(), SERIES[0])
    return chart.picture


def _chosen_rows(embedding: Embedding, chosen: Sequence[int]) -> Image.Image:
    rows = embedding.rows(chosen)
    chart = Chart(
        (_WIDE, 76 + max(24 * len(chosen), 60)),
        Scale.of_cells(embedding.dim),
        Scale.of_cells(len(chosen), downwards=True),
        title="The embeddings of the chosen timesteps",
        x_label="dimension: sines, then cosines",
        y_names=[f"t = {t}" for t in chosen],
        gutter=_GUTTER,
    )
    chart.cells(heat_map(rows[:, sampled(embedding.dim, _WIDE)], Scale(-1, 1), DIVERGING))
    strips = _with_bar(chart, Scale(-1, 1), DIVERGING)
    if len(chosen) == 1:
        return strips
    between = distances(rows)
    scale = Scale(0, float(between.max()))
    names = [f"t = {t}" for t in chosen]
    return _columns(
        strips,
        matrix(between, names, _SQUARE, scale, SEQUENTIAL, "Euclidean distances between them"),
    )


def _learned(learned: LearnedEmbedding, total: int) -> list[Image.Image]:
    changes = learned.changes[:, learned.changes[0].argsort()]
    limit = float(np.quantile(np.abs(changes), 0.99)) or 1.0
    maps = _columns(
        _time_map(
            changes,
            total,
            Scale(-limit, limit),
            "The embedding after the network's two layers, less its mean, sorted by t = 0",
        ),
        _similarity_map(learned.similarity, total, "Cosine similarity of two timesteps in it"),
    )
    effects = _label_matrix(
        learned.effect_similarity,
        learned.class_names,
        _WIDE,
        "Cosine similarity of two labels' effects on the blocks",
    )
    labels = _label_matrix(
        learned.label_similarity,
        learned.class_names,
        _SQUARE,
        "Cosine similarity of the label embeddings themselves",
    )
    text = f"{learned.most_similar} {_EMBEDDINGS_CHANGE_LITTLE}"
    note = paragraph(text, _SQUARE, NORMAL, MUTED)
    heading = line("What the trained network learned", LARGE)
    return [heading, maps, _columns(effects, stack([labels, note], 10))]


def _label_matrix(values: Array, names: Sequence[str], side: int, title: str) -> Image.Image:
    # The diagonal is 1 by definition, and must not decide the range of the colours.
    others = np.abs(values[~np.eye(len(values), dtype=bool)])
    limit = float(others.max(initial=0.0)) or 1.0
    return matrix(values, names, side, Scale(-limit, limit), DIVERGING, title, diagonal=False)
