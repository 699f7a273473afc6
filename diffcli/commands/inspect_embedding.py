"""``diffcli inspect-embedding``: show how a timestep is encoded for a network."""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from diffcli.commands.console import say
from diffcli.commands.options import (
    OUTPUT_PANEL,
    ForceOption,
    JsonOption,
    QuietOption,
    TimestepOption,
    check_output,
    chosen_timesteps,
    option,
    write_output,
)
from diffcli.core.parameters import MAX_TIMESTEPS
from diffcli.errors import UsageError, as_usage_error, printable

if TYPE_CHECKING:
    from rich.table import Table

    from diffcli.figures.embedding_data import Embedding, LearnedEmbedding

    Learned = Callable[[Sequence[int]], LearnedEmbedding]
    """Timesteps to the embeddings that a trained network gives them."""

_DEFAULT_DIM, _DEFAULT_TIMESTEPS, _DEFAULT_MAX_PERIOD = 128, 300, 10_000.0
_MAX_LINES, _MAX_COLUMNS = 12, 6


def inspect_embedding(
    dim: Annotated[
        int | None,
        option("Width of the embedding, an even number.", shown=str(_DEFAULT_DIM), min=2, max=8192),
    ] = None,
    timesteps: Annotated[
        int | None,
        option("Number of timesteps T.", shown=str(_DEFAULT_TIMESTEPS), min=1, max=MAX_TIMESTEPS),
    ] = None,
    max_period: Annotated[
        float | None,
        option(
            "Ratio of the longest wavelength to the shortest.", shown=f"{_DEFAULT_MAX_PERIOD:g}"
        ),
    ] = None,
    timestep: TimestepOption = None,
    model: Annotated[
        Path | None,
        option(
            "Model (file, run's folder or name, mnist or mnist-2step): also show what it "
            "learned. Width and T are then the model's.",
            None,
            "--model",
            "-m",
            shown=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        option("PNG to write.", OUTPUT_PANEL, "--output", "-o", shown="embedding.png"),
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
    as_csv: Annotated[
        bool,
        option("Print the embeddings as CSV: those of --timestep, or all.", OUTPUT_PANEL, "--csv"),
    ] = False,
) -> None:
    """Draw the sinusoidal embedding that tells a network the timestep.

    The figure has a heat map, curves, wavelengths, and the similarity of timesteps. With --json
    or --csv, numbers are printed and no figure is drawn.
    """
    from diffcli.figures.embedding_data import Embedding

    if as_json and as_csv:
        raise UsageError("--json and --csv both write to stdout; choose one")
    if (as_json or as_csv) and output:
        raise UsageError("--json and --csv draw no figure; leave --output out")
    target = output or Path("embedding.png")
    if not (as_json or as_csv):
        check_output(target)
    learned = None
    if model:
        if any(value is not None for value in (dim, timesteps, max_period)):
            raise UsageError(
                "--dim, --timesteps and --max-period are those of the --model; leave them out"
            )
        embedding, learned = _read_model(model, quiet)
    else:
        with as_usage_error():
            embedding = Embedding(
                dim or _DEFAULT_DIM,
                timesteps or _DEFAULT_TIMESTEPS,
                _DEFAULT_MAX_PERIOD if max_period is None else max_period,
            )
    chosen = chosen_timesteps(timestep or [], embedding.num_timesteps)
    if as_json:
        print(json.dumps(_numbers(embedding, chosen, learned), allow_nan=False))
    elif as_csv:
        _write_csv(embedding, chosen, learned)
    else:
        _draw(target, force, embedding, chosen, learned, quiet)


def _read_model(wanted: Path, quiet: bool) -> tuple["Embedding", "Learned"]:
    """The embedding that a trained network uses, and a function to what it learned."""
    from diffcli.figures.learned import embedding_of, learned_embedding
    from diffcli.files.checkpoint import load_model
    from diffcli.files.locations import find_model, model_text

    path = find_model(wanted)
    description, denoiser = load_model(path)
    if not quiet:
        say(model_text(path))
    learned = partial(learned_embedding, denoiser, description.class_names)
    return embedding_of(denoiser), learned


def _draw(
    target: Path,
    force: bool,
    embedding: "Embedding",
    chosen: list[int],
    learned: "Learned | None",
    quiet: bool,
) -> None:
    from rich.console import Console

    from diffcli.figures.embedding_figure import embedding_figure, shown_timesteps
    from diffcli.files.pictures import encode_png

    found = learned(shown_timesteps(embedding.num_timesteps)) if learned else None
    content = encode_png(embedding_figure(embedding, chosen, found))
    path = write_output(target, content, force, quiet)
    if not quiet:
        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        console.print(_wavelength_table(embedding))
        console.print(embedding.completeness)
        if len(chosen) > 1:
            console.print(_distance_table(embedding, chosen))
        if found:
            console.print(printable(found.most_similar))
    print(path)


def _wavelength_table(embedding: "Embedding") -> "Table":
    """All pairs, or twelve of them, evenly spaced."""
    from rich.table import Table

    half = embedding.dim // 2
    shown = [i * (half - 1) // (_MAX_LINES - 1) for i in range(_MAX_LINES)]
    table = Table("pair i", "dimensions", "wavelength", f"periods in T = {embedding.num_timesteps}")
    for column in table.columns:
        column.justify = "right"
    for i in shown if half > _MAX_LINES else range(half):
        wavelength = embedding.wavelengths[i]
        table.add_row(
            str(i),
            f"{i}, {i + half}",
            f"{wavelength:,.1f}",
            f"{embedding.num_timesteps / wavelength:,.2f}",
        )
    return table


def _distance_table(embedding: "Embedding", chosen: list[int]) -> "Table":
    """Distances between the first chosen timesteps; the figure and --json have all."""
    from rich.table import Table

    from diffcli.figures.embedding_data import distances

    shown = chosen[:_MAX_COLUMNS]
    between = distances(embedding.rows(shown))
    table = Table("distance", *(f"t = {t}" for t in shown))
    for column in table.columns:
        column.justify = "right"
    for t, row in zip(shown, between, strict=True):
        table.add_row(f"t = {t}", *(f"{value:.2f}" for value in row))
    return table


def _numbers(
    embedding: "Embedding", chosen: list[int], learned: "Learned | None"
) -> dict[str, object]:
    """All numbers of the figure, for JSON."""
    from diffcli.figures.embedding_data import distances

    timesteps = chosen or list(range(embedding.num_timesteps))
    rows = embedding.rows(timesteps)
    numbers: dict[str, object] = {
        "dim": embedding.dim,
        "num_timesteps": embedding.num_timesteps,
        "max_period": embedding.max_period,
        "frequencies": embedding.frequencies.tolist(),
        "wavelengths": embedding.wavelengths.tolist(),
        "incomplete_pairs": list(embedding.incomplete),
        "timesteps": timesteps,
        "embeddings": rows.tolist(),
    }
    if chosen:
        numbers["distances"] = distances(rows).tolist()
    if learned:
        found = learned(timesteps)
        numbers["learned_embeddings"] = found.rows.tolist()
        numbers["class_names"] = found.class_names
        numbers["label_similarity"] = found.label_similarity.tolist()
        numbers["effect_similarity"] = found.effect_similarity.tolist()
    return numbers


def _write_csv(embedding: "Embedding", chosen: list[int], learned: "Learned | None") -> None:
    timesteps = chosen or range(embedding.num_timesteps)
    half = embedding.dim // 2
    header = ["t", *(f"{wave}_{i}" for wave in ("sin", "cos") for i in range(half))]
    extra: list[list[float]] = (
        learned(timesteps).rows.tolist() if learned else [[]] * len(timesteps)
    )
    header += [f"learned_{i}" for i in range(len(extra[0]))]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header)
    for t, row, more in zip(timesteps, embedding.rows(timesteps).tolist(), extra, strict=True):
        writer.writerow([t, *row, *more])
