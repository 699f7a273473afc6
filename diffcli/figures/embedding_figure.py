"""The figure of the timestep embedding: what it is, and what a network made of it."""

import math
from collections.abc import Sequence
from functools import cache

from PIL import Image

from diffcli.core.sinusoids import similarity
from diffcli.drawing.chart import Chart
from diffcli.drawing.colours import DIVERGING, MUTED, SEQUENTIAL, SERIES, SHADE, ColourMap
from diffcli.drawing.heat import colour_bar, heat_map, matrix, sampled
from diffcli.drawing.layout import at_least, beside, padded, stack
from diffcli.drawing.scales import Scale
from diffcli.drawing.text import LARGE, NORMAL, formula, line, paragraph
from diffcli.figures.embedding import Embedding, LearnedEmbedding, Rows, distances

_WIDTH, _GAP, _MARGIN = 1180, 28, 24
_WIDE, _SQUARE, _GUTTER = 660, 430, 64
_TALL, _LOW = 390, 280
_LEFT_COLUMN = _WIDE + 62

_EMBEDDINGS_STAY = (
    "The embeddings themselves begin at random, almost at right angles, and training turns "
    "them little: it is the blocks that learn to read them."
)


def shown_timesteps(num_timesteps: int) -> list[int]:
    """All timesteps, or as many of them as the figure has pixels for."""
    return sampled(num_timesteps, _WIDE)


def embedding_figure(
    embedding: Embedding, chosen: Sequence[int] = (), learned: LearnedEmbedding | None = None
) -> Image.Image:
    """Heat map, similarity, waves and wavelengths; chosen timesteps; what a network learned."""
    half = embedding.dim // 2
    ends, last = (embedding.wavelengths[0], embedding.wavelengths[-1]), f"{{{half - 1}}}"
    parts = [
        line(
            f"Sinusoidal timestep embedding: dim = {embedding.dim}, T = {embedding.num_timesteps}, "
            f"max_period = {embedding.max_period:g}",
            LARGE,
        ),
        formula(
            f"frequency{{i}} = exp(-i · ln({embedding.max_period:g}) / {max(half - 1, 1)}),  "
            f"i = {_span('0', str(half - 1))}        wavelength{{i}} = 2 pi / frequency{{i}} = "
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
    rows = [embedding.row(t) for t in shown_timesteps(embedding.num_timesteps)]
    return _time_map(
        rows,
        embedding.num_timesteps,
        Scale(-1, 1),
        "The embedding: a column per timestep, sines above, cosines below",
    )


def _time_map(rows: Rows, num_timesteps: int, scale: Scale, title: str) -> Image.Image:
    dim = len(rows[0])
    chart = Chart(
        (_WIDE, _TALL),
        Scale.of_cells(num_timesteps),
        Scale.of_cells(dim, downwards=True),
        title=title,
        x_label="timestep t",
        y_label="dimension",
        gutter=_GUTTER,
    )
    shown = sampled(dim, _TALL)
    chart.cells(heat_map([[row[d] for row in rows] for d in shown], scale, DIVERGING))
    return _with_bar(chart, scale, DIVERGING)


def _similarity(embedding: Embedding) -> Image.Image:
    steps = sampled(embedding.num_timesteps, _SQUARE)
    alike = cache(lambda distance: similarity(distance, embedding.frequencies))
    rows = [[alike(abs(s - t)) for s in steps] for t in steps]
    return _similarity_map(rows, embedding.num_timesteps, "How alike are two timesteps? Cosine")


def _similarity_map(rows: Rows, num_timesteps: int, title: str) -> Image.Image:
    lowest = min(min(row) for row in rows)
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
    chart.cells(heat_map(rows, scale, SEQUENTIAL))
    return _with_bar(chart, scale, SEQUENTIAL)


def _waves(embedding: Embedding, chosen: Sequence[int]) -> Image.Image:
    """Up to four sines whose wavelengths are spread around T, where they can be told apart."""
    total = embedding.num_timesteps
    wanted = [total / 8, total / 3, total, 4 * total]
    pairs = sorted(
        {
            min(
                range(embedding.dim // 2), key=lambda i: abs(math.log(embedding.wavelengths[i] / w))
            )
            for w in wanted
        }
    )
    colours = dict(zip(pairs, SERIES, strict=False))
    chart = Chart(
        (_WIDE, _LOW),
        Scale.of_cells(total),
        Scale(-1.1, 1.1),
        title="Some of its dimensions as curves, with their wavelengths",
        x_label="timestep t",
        gutter=_GUTTER,
        legend=[(f"sin {i}: {_rounded(embedding.wavelengths[i])}", colours[i]) for i in pairs],
        marked=bool(chosen),
    )
    steps = sampled(total, 2 * _WIDE)
    for i in pairs:
        ys = [math.sin(t * embedding.frequencies[i]) for t in steps]
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
        title="Timesteps per turn, of each pair of sine and cosine",
        x_label="pair i; shaded: no whole turn within T",
        gutter=_GUTTER,
    )
    if embedding.incomplete:
        chart.shade(embedding.incomplete[0] - 0.5, half - 0.5, SHADE)
    chart.level(total, f"T = {total}")
    chart.curve(range(half), embedding.wavelengths, SERIES[0])
    if half <= 64:
        chart.dots(range(half), embedding.wavelengths, SERIES[0])
    return chart.picture


def _chosen_rows(embedding: Embedding, chosen: Sequence[int]) -> Image.Image:
    rows = [embedding.row(t) for t in chosen]
    shown = sampled(embedding.dim, _WIDE)
    chart = Chart(
        (_WIDE, 76 + max(24 * len(chosen), 60)),
        Scale.of_cells(embedding.dim),
        Scale.of_cells(len(chosen), downwards=True),
        title="The rows of the chosen timesteps",
        x_label="dimension: sines, then cosines",
        y_names=[f"t = {t}" for t in chosen],
        gutter=_GUTTER,
    )
    chart.cells(heat_map([[row[d] for d in shown] for row in rows], Scale(-1, 1), DIVERGING))
    strips = _with_bar(chart, Scale(-1, 1), DIVERGING)
    if len(chosen) == 1:
        return strips
    between = distances(rows)
    scale = Scale(0, max(max(row) for row in between))
    names = [f"t = {t}" for t in chosen]
    return _columns(
        strips, matrix(between, names, _SQUARE, scale, SEQUENTIAL, "Distances between them")
    )


def _learned(learned: LearnedEmbedding, total: int) -> list[Image.Image]:
    magnitudes = sorted(abs(value) for row in learned.rows for value in row)
    limit = magnitudes[int(0.99 * (len(magnitudes) - 1))] or 1.0
    heading = line("What the trained network made of it", LARGE)
    maps = _columns(
        _time_map(
            learned.rows, total, Scale(-limit, limit), "The same after the network's two layers"
        ),
        _similarity_map(learned.similarity, total, "How alike are two timesteps to it? Cosine"),
    )
    effects = _label_matrix(
        learned.effect_similarity,
        learned.class_names,
        _WIDE,
        "How alike are two labels to it? Cosine between what they do to its blocks",
    )
    labels = _label_matrix(
        learned.label_similarity,
        learned.class_names,
        _SQUARE,
        "Cosine of the embeddings themselves",
    )
    note = paragraph(f"{learned.likeness} {_EMBEDDINGS_STAY}", _SQUARE, NORMAL, MUTED)
    return [heading, maps, _columns(effects, stack([labels, note], 10))]


def _label_matrix(values: Rows, names: Sequence[str], side: int, title: str) -> Image.Image:
    # The diagonal is 1 by definition; the colours are for what is not known beforehand.
    others = [abs(v) for i, row in enumerate(values) for j, v in enumerate(row) if i != j]
    reach = max(others, default=1.0) or 1.0
    return matrix(values, names, side, Scale(-reach, reach), DIVERGING, title)
