"""``diffcli inspect-embedding``: what a timestep looks like to a network."""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffcli.commands.options import ForceOption
from diffcli.commands.places import check_place, free_place
from diffcli.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from diffcli.figures.embedding import Embedding, LearnedEmbedding

    Network = Callable[[Sequence[int]], LearnedEmbedding]
    """Embeds timesteps as a trained network does."""

_MODEL, _OUTPUT = "Trained network", "Output"
_DEFAULT_DIM, _DEFAULT_TIMESTEPS, _DEFAULT_MAX_PERIOD = 128, 300, 10_000.0
_MOST_LINES, _MOST_COLUMNS = 12, 6


def inspect_embedding(
    dim: Annotated[
        int | None,
        typer.Option(min=2, max=8192, help="Width, even.", show_default=str(_DEFAULT_DIM)),
    ] = None,
    timesteps: Annotated[
        int | None,
        typer.Option(
            min=1, max=100_000, help="T of the process.", show_default=str(_DEFAULT_TIMESTEPS)
        ),
    ] = None,
    max_period: Annotated[
        float | None,
        typer.Option(
            help="Ratio of the longest wavelength to the shortest.",
            show_default=f"{_DEFAULT_MAX_PERIOD:g}",
        ),
    ] = None,
    t: Annotated[
        list[str] | None,
        typer.Option(
            "--t",
            help="Timesteps to show row by row, with their distances: 10 or 10,11,200. "
            "May be repeated.",
            show_default="none",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A model file, or a run by folder or name: show what it learned too. "
            "Width and T are then the model's.",
            show_default="none",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The PNG to write.", rich_help_panel=_OUTPUT),
    ] = Path("embedding.png"),
    force: ForceOption = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print all numbers as JSON, and no picture.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    as_csv: Annotated[
        bool,
        typer.Option(
            "--csv",
            help="Print the rows of --t, or of all timesteps, as CSV, and no picture.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
) -> None:
    """Draw the sinusoidal embedding that tells a network which timestep it is at.

    Heat map, waves, wavelengths, and how alike any two timesteps are.
    """
    from diffcli.commands.timesteps import parse_timesteps
    from diffcli.figures.embedding import Embedding

    if as_json and as_csv:
        raise UsageError("--json and --csv exclude each other; choose one")
    network = None
    if model:
        if any(value is not None for value in (dim, timesteps, max_period)):
            raise UsageError(
                "--dim, --timesteps and --max-period are the model's own; leave them out, "
                "or leave out --model"
            )
        embedding, network = _read_model(model)
    else:
        try:
            embedding = Embedding(
                dim or _DEFAULT_DIM,
                timesteps or _DEFAULT_TIMESTEPS,
                _DEFAULT_MAX_PERIOD if max_period is None else max_period,
            )
        except ValueError as error:
            raise UsageError(str(error)) from error
    chosen = parse_timesteps(t or [], embedding.num_timesteps)
    if as_json:
        print(json.dumps(_numbers(embedding, chosen, network), allow_nan=False))
    elif as_csv:
        _write_csv(embedding, chosen, network)
    else:
        check_place(output)
        place = free_place(output, force)
        _draw(place, embedding, chosen, network)
        print(place)


def _read_model(named: Path) -> tuple["Embedding", "Network"]:
    """The embedding that a trained network uses, and a way to ask the network."""
    from diffcli.figures.learned import embedding_of, learned_embedding
    from diffcli.files.checkpoint import load_model
    from diffcli.files.models import find_model

    path = find_model(named)
    description, denoiser = load_model(path)
    print(f"model: {path}", file=sys.stderr)
    ask = partial(learned_embedding, denoiser.network, description.class_names)
    return embedding_of(denoiser), ask


def _draw(
    output: Path, embedding: "Embedding", chosen: list[int], network: "Network | None"
) -> None:
    from rich.console import Console

    from diffcli.figures.embedding_figure import embedding_figure, shown_timesteps
    from diffcli.files.pictures import save_png

    learned = network(shown_timesteps(embedding.num_timesteps)) if network else None
    save_png(output, embedding_figure(embedding, chosen, learned))
    console = Console(stderr=True, highlight=False)
    console.print(_wavelength_table(embedding))
    console.print(embedding.completeness)
    if len(chosen) > 1:
        console.print(_distance_table(embedding, chosen))
    if learned:
        console.print(learned.likeness)


def _wavelength_table(embedding: "Embedding") -> "Table":
    """The pairs, or a dozen of them, evenly spaced."""
    from rich.table import Table

    half = embedding.dim // 2
    shown = [i * (half - 1) // (_MOST_LINES - 1) for i in range(_MOST_LINES)]
    table = Table("pair i", "dimensions", "wavelength", f"turns in T = {embedding.num_timesteps}")
    for column in table.columns:
        column.justify = "right"
    for i in shown if half > _MOST_LINES else range(half):
        wavelength = embedding.wavelengths[i]
        table.add_row(
            str(i),
            f"{i}, {i + half}",
            f"{wavelength:,.1f}",
            f"{embedding.num_timesteps / wavelength:,.2f}",
        )
    return table


def _distance_table(embedding: "Embedding", chosen: list[int]) -> "Table":
    """Between each two of the first chosen timesteps; the figure and --json have all."""
    from rich.table import Table

    from diffcli.figures.embedding import distances

    shown = chosen[:_MOST_COLUMNS]
    between = distances([embedding.row(t) for t in shown])
    table = Table("distance", *(f"t = {t}" for t in shown))
    for column in table.columns:
        column.justify = "right"
    for t, row in zip(shown, between, strict=True):
        table.add_row(f"t = {t}", *(f"{value:.2f}" for value in row))
    return table


def _numbers(
    embedding: "Embedding", chosen: list[int], network: "Network | None"
) -> dict[str, object]:
    """All that the figure shows, as JSON has it."""
    from diffcli.figures.embedding import distances

    timesteps = chosen or list(range(embedding.num_timesteps))
    rows = [embedding.row(t) for t in timesteps]
    numbers: dict[str, object] = {
        "dim": embedding.dim,
        "num_timesteps": embedding.num_timesteps,
        "max_period": embedding.max_period,
        "frequencies": embedding.frequencies,
        "wavelengths": embedding.wavelengths,
        "incomplete_pairs": list(embedding.incomplete),
        "timesteps": timesteps,
        "embeddings": rows,
    }
    if chosen:
        numbers["distances"] = distances(rows)
    if network:
        learned = network(timesteps)
        numbers["learned_embeddings"] = learned.rows
        numbers["class_names"] = learned.class_names
        numbers["label_similarity"] = learned.label_similarity
        numbers["effect_similarity"] = learned.effect_similarity
    return numbers


def _write_csv(embedding: "Embedding", chosen: list[int], network: "Network | None") -> None:
    timesteps = chosen or range(embedding.num_timesteps)
    half = embedding.dim // 2
    header = ["t", *(f"{wave}_{i}" for wave in ("sin", "cos") for i in range(half))]
    learned = network(timesteps).rows if network else [[] for _ in timesteps]
    header += [f"learned_{i}" for i in range(len(learned[0]))]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(header)
    for t, extra in zip(timesteps, learned, strict=True):
        writer.writerow([t, *embedding.row(t), *extra])
