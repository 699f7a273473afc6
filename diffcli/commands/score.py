"""``diffcli score``: how likely a model finds pictures, and under which label."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diffcli.commands.console import ProgressDisplay, list_unreadable, say
from diffcli.commands.options import (
    OUTPUT_PANEL,
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    check_output,
    option,
    write_output,
)
from diffcli.core.parameters import MAX_SEED
from diffcli.errors import UsageError, printable

if TYPE_CHECKING:
    from torch import Tensor

    from diffcli.core.likelihood import Score
    from diffcli.sampling.model import Model
    from diffcli.sampling.pictures import Pictures

_MOST_ROWS, _MOST_BLOCKS = 40, 12
# Of the drawings of the shipped digits, 0.2 % are above it.
_RARELY_ABOVE = 3


def score(
    pictures: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures, folders of class folders, or npz files.", show_default=False
        ),
    ],
    model: ModelOption = None,
    device: DeviceOption = "auto",
    seed: Annotated[int, option("Seed of noise and timesteps.", min=0, max=MAX_SEED)] = 0,
    ood: Annotated[
        bool,
        option("Also say how unusual each picture is (out of distribution).", None, "--ood"),
    ] = False,
    output: Annotated[
        Path | None,
        option(
            f"PNG to draw estimates to, of up to {_MOST_BLOCKS} pictures.",
            OUTPUT_PANEL,
            "--output",
            "-o",
        ),
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Estimate the label of pictures, and how many bits a model needs to describe them.

    The label is the one under which the network denoises the picture best (a diffusion
    classifier). The bits per dimension are an upper bound on the negative log-likelihood.
    """
    if output:
        check_output(output)

    from diffcli.data.images import describe_shape
    from diffcli.device import open_device
    from diffcli.figures.score_figure import score_figure
    from diffcli.files.locations import find_model, model_text
    from diffcli.files.pictures import encode_png
    from diffcli.sampling.model import Model
    from diffcli.sampling.outliers import unusual
    from diffcli.sampling.pictures import read_pictures

    path = find_model(model)
    drawer = Model.load(path, open_device(device))
    read = read_pictures(pictures, drawer.description.architecture.image_shape, drawer.class_names)
    if output and len(read.names) > _MOST_BLOCKS:
        raise UsageError(
            f"{len(read.names):,} pictures are too many for one figure, which takes up to "
            f"{_MOST_BLOCKS}; leave --output out, or name fewer pictures"
        )
    if not quiet:
        list_unreadable(read.unreadable)
    if read.converted and not quiet:
        say(
            f"{read.converted:,} of {len(read.names):,} pictures had another size or other "
            f"colours; converted to {describe_shape(read.pixels)}"
        )
    with ProgressDisplay(quiet) as display:
        found = drawer.score(read.pixels, seed, display.stage("scoring pictures"))
        labels, show = found.posterior.argmax(1), display.stage("comparing with own drawings")
        odd = unusual(drawer, read.pixels, labels, show) if ood else None
    if not quiet:
        say(model_text(path))
    if as_json:
        print(json.dumps(_document(drawer, read, found, odd), allow_nan=False))
    else:
        _print_table(drawer, read, found, odd)
    if output:
        figure = score_figure(drawer, read, found)
        written = write_output(output, encode_png(figure), force, quiet)
        if not as_json:
            print(written)
        elif not quiet:
            say(f"figure: {written}")


def _summary(pictures: "Pictures", score: "Score") -> dict[str, Any]:
    """Means over all pictures, and the share of known labels that were found."""
    best = score.posterior.argmax(1).tolist()
    known = [
        label == guess for label, guess in zip(pictures.labels, best, strict=True) if label >= 0
    ]
    return {
        "count": len(pictures.names),
        "bits_per_dimension": float(score.bits.mean()),
        "with_known_label": len(known),
        "label_found": sum(known) / len(known) if known else None,
    }


def _document(
    model: "Model", pictures: "Pictures", score: "Score", odd: "Tensor | None"
) -> dict[str, Any]:
    names = model.class_names
    deviations = [None] * len(pictures.names) if odd is None else odd.tolist()
    return {
        "model": str(model.path),
        **_summary(pictures, score),
        "pictures": [
            {
                "picture": name,
                "label": names[int(posterior.argmax())],
                "known_label": names[label] if label >= 0 else None,
                "posterior": dict(zip(names, posterior.tolist(), strict=True)),
                "bits_per_dimension": float(bits),
                "standard_error": float(error),
                "unusual": deviation,
            }
            for name, label, posterior, bits, error, deviation in zip(
                pictures.names,
                pictures.labels,
                score.posterior,
                score.bits,
                score.standard_error,
                deviations,
                strict=True,
            )
        ],
    }


def _print_table(
    model: "Model", pictures: "Pictures", score: "Score", odd: "Tensor | None"
) -> None:
    """The first pictures, and the means of all."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    headings = ["picture", "label", "posterior", "second", "posterior", "bits/dim"]
    headings += [] if odd is None else ["unusual"]
    table = Table(*headings, padding=(0, 1, 0, 0))
    for column in table.columns:
        column.overflow = "fold"
        if column.header not in ("picture", "label", "second"):
            column.justify = "right"
    for index, name in enumerate(pictures.names[:_MOST_ROWS]):
        values, labels = score.posterior[index].sort(descending=True)
        cells = [Text(printable(name))]
        for rank in range(2):
            if rank < len(labels):
                label = printable(model.class_names[labels[rank]])
                cells += [Text(label), Text(f"{values[rank]:.1%}")]
            else:
                cells += [Text(), Text()]
        bits, error = score.bits[index], score.standard_error[index]
        deviation = [] if odd is None else [f"{odd[index]:.1f}"]
        table.add_row(*cells, f"{bits:.2f} ± {error:.2f}", *deviation)
    console.print(table)
    if odd is not None:
        console.print(
            "unusual: how much less a picture looks like its label than the model's own drawings "
            f"of it do, in their standard deviations. Few drawings are above {_RARELY_ABOVE}; of "
            f"these pictures: {int((odd > _RARELY_ABOVE).sum()):,} of {len(odd):,}."
        )
    summary = _summary(pictures, score)
    if summary["count"] > _MOST_ROWS:
        console.print(f"and {summary['count'] - _MOST_ROWS:,} more (--json lists all)")
    if summary["count"] > 1:
        console.print(f"mean: {summary['bits_per_dimension']:.3f} bits per dimension")
    if summary["with_known_label"]:
        console.print(
            f"label found: {summary['label_found']:.1%} of {summary['with_known_label']:,}"
        )
