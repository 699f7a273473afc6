"""``diffcli evaluate``: measure how good the pictures of a model, or any pictures, are."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

from diffcli.commands.console import ProgressDisplay, list_unreadable, say, warn_of_copies
from diffcli.commands.options import (
    ADVICE,
    MODEL_PANEL,
    OUTPUT_PANEL,
    SAMPLING_PANEL,
    DeviceOption,
    EtaOption,
    FeaturesOption,
    ForceOption,
    GuidanceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    SamplerOption,
    StepsOption,
    check_output,
    option,
    write_output,
)
from diffcli.core.parameters import MAX_SEED
from diffcli.errors import UsageError, printable

if TYPE_CHECKING:
    from diffcli.data.images import LabelledImages
    from diffcli.data.sources import DataSet
    from diffcli.evaluation.samples import Samples
    from diffcli.files.arrays import PictureArrays
    from diffcli.sampling.model import Model

_DEFAULT_NUM, _MAX_NUM, _MAX_SETS = 10_000, 1_000_000, 1000
_MAX_CLASSES = 20
_FEW_HELD_OUT = 250
_MOST_NAMED = 5

# Key, heading and format of every figure.
_FIGURES = (
    ("frechet_train", "Frechet distance to training images", "{:.4f}"),
    ("frechet_train_over_noise", "  over sampling noise", "{:.1f}x"),
    ("frechet_train_over_shift", "  over that of test images", "{:.1f}x"),
    ("frechet_test", "Frechet distance to test images", "{:.4f}"),
    ("frechet_test_over_noise", "  over sampling noise", "{:.1f}x"),
    ("frechet_test_over_shift", "  over that of test to training images", "{:.1f}x"),
    ("agreement", "Recognised as the requested label", "{:.2%}"),
    ("precision", "Precision", "{:.3f}"),
    ("recall", "Recall", "{:.3f}"),
    ("density", "Density", "{:.3f}"),
    ("coverage", "Coverage", "{:.3f}"),
    ("nearest_median", "Distance to nearest training image, median", "{:.2f}"),
    ("nearest_first_percentile", "  1st percentile", "{:.2f}"),
    ("copies", "  share of copies, at least", "{:.1%}"),
    ("grey_mean", "Grey values, mean", "{:.1f}"),
    ("grey_std", "  standard deviation", "{:.1f}"),
    ("classification_accuracy", "Test images recognised, trained on samples", "{:.2%}"),
)


def evaluate(
    model: ModelOption = None,
    samples: Annotated[
        Path | None, option("Pictures to judge: an npz, or a folder of class folders.", MODEL_PANEL)
    ] = None,
    num: Annotated[
        int | None,
        option(
            "Pictures to draw.",
            MODEL_PANEL,
            "--num",
            "-n",
            "--n",
            shown=f"{_DEFAULT_NUM}",
            min=1,
            max=_MAX_NUM,
        ),
    ] = None,
    data: Annotated[
        str | None,
        option(
            "Data set to compare with: a name or a folder.",
            MODEL_PANEL,
            shown="the model's, else mnist",
        ),
    ] = None,
    features: FeaturesOption = "main",
    cas: Annotated[
        bool, option("Also train a classifier on the pictures, and test it.", MODEL_PANEL, "--cas")
    ] = False,
    device: DeviceOption = "auto",
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    eta: EtaOption = None,
    seed: Annotated[
        int,
        option(
            "Seed of the first picture, and of the choice of real ones.",
            SAMPLING_PANEL,
            min=0,
            max=MAX_SEED,
        ),
    ] = 0,
    seeds: Annotated[
        int,
        option(
            "Number of sets to draw; prints medians and ranges.",
            SAMPLING_PANEL,
            min=1,
            max=_MAX_SETS,
        ),
    ] = 1,
    output: Annotated[
        Path | None, option("PNG to write a report to.", OUTPUT_PANEL, "--output", "-o")
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare a model's pictures with real ones: Frechet distance, labels, variety, copies."""
    if output:
        check_output(output)
    count = num or _DEFAULT_NUM
    if samples:
        _refuse(
            {
                "--model": model,
                "--num": num,
                "--sampler": sampler,
                "--steps": steps,
                "--guidance": guidance,
                "--eta": eta,
                "--seeds": seeds if seeds > 1 else None,
            }
        )
    elif seed + count * seeds > MAX_SEED + 1:
        raise UsageError(
            f"the seeds of {seeds} x {count:,} pictures from {seed} exceed {MAX_SEED}; "
            "choose a smaller --seed, --num or --seeds"
        )

    from dataclasses import asdict

    from diffcli.device import open_device
    from diffcli.evaluation.judge import Judge
    from diffcli.evaluation.provide import find_features
    from diffcli.evaluation.samples import draw_samples, fit_samples, read_samples
    from diffcli.evaluation.summary import Evaluation
    from diffcli.figures.report import draw_report
    from diffcli.files.locations import find_model, model_text, title_of
    from diffcli.files.pictures import encode_png
    from diffcli.sampling.model import Model

    where = open_device(device)
    source = samples or find_model(model)
    drawer = None if samples else Model.load(source, where)
    settings = (
        drawer.settings(sampler=sampler, steps=steps, guidance_scale=guidance, eta=eta)
        if drawer
        else None
    )
    data = data or (drawer.description.dataset if drawer else "mnist")
    stored = read_samples(samples) if samples else None
    dataset = _dataset(data, drawer, stored, quiet)
    read = fit_samples(stored, dataset.train) if stored else None
    _check_number(len(read.images) if read else count, read is None, features, dataset)
    if drawer and not quiet:
        say(model_text(source))
    with ProgressDisplay(quiet) as display:
        network = find_features(
            features,
            dataset.train,
            dataset.held_out,
            where,
            display.stage("training a feature network"),
        )
        judge = Judge(network, dataset.train, dataset.held_out, seed, display.show_stage)

        def sets() -> "Iterator[PictureArrays]":
            if read:
                yield read
            elif drawer and settings:
                show = display.stage("drawing samples")
                for first in range(seed, seed + seeds * count, count):
                    yield draw_samples(drawer, dataset.train, count, first, settings, show)

        evaluation = Evaluation(judge, dataset.train.class_names)
        for pictures in sets():
            evaluation.add(pictures, cas)
    document = {
        "judged": str(source),
        "data": data,
        "features": features,
        "settings": settings and asdict(settings),
        "seed": seed,
        **evaluation.document(),
    }
    _print_figures(document, as_json)
    if not quiet:
        _warn(document, dataset.held_out, drawer is not None)
    if output:
        title = (
            f"{title_of(source)}: {len(pictures.labels):,} pictures, compared with "
            f"{Path(data).name or data}"
        )
        report = write_output(
            output,
            encode_png(draw_report(pictures, evaluation, dataset.train, title)),
            force,
            quiet,
        )
        if not quiet:
            say(f"report: {report}")


def _dataset(
    data: str, drawer: "Model | None", samples: "Samples | None", quiet: bool
) -> "DataSet":
    """The data set to compare with, in the size of the model or of the samples.

    Only the pictures of a folder take the size of samples, as they may have many.  Other data sets
    have one, which their samples should have, too.

    Raises:
        UsageError: if it has other classes or colours than the model.
        DiffcliError: if it cannot be read.
    """
    from diffcli.data.sources import is_folder, load_data

    size = None
    if drawer:
        size = drawer.description.architecture.image_shape[1:]
    elif samples and is_folder(data):
        height, width = samples.pictures.images.shape[2:]
        size = (height, width)
    dataset = load_data(data, size)
    if drawer:
        train = dataset.train
        drawer.description.check_data(train.class_names, train.images.shape[1])
    if not quiet:
        list_unreadable(dataset.unreadable)
        if samples and size and dataset.resized:
            say(
                f"pictures of another size than the samples, resized to {size[1]}x{size[0]}: "
                f"{dataset.resized:,}"
            )
    return dataset


def _check_number(number: int, drawn: bool, features: str, dataset: "DataSet") -> None:
    """Check that there are enough samples for the features that they are compared in.

    Raises:
        UsageError: if not.
    """
    from diffcli.evaluation.provide import count_features

    needed = count_features(features, dataset.train, dataset.held_out) + 1
    if number < needed:
        remedy = "draw more with --num" if drawn else ADVICE["samples"]
        raise UsageError(f"at least {needed:,} samples are needed, not {number:,}; {remedy}")


def _warn(document: dict[str, Any], held_out: "LabelledImages", drawn: bool) -> None:
    copies, compared = document["median"]["copies"], document["real"]["images"]
    if drawn:
        warn_of_copies(copies, compared)
    else:
        warn_of_copies(copies, compared, "compare them with the nearest images (--output)")
    if compared < _FEW_HELD_OUT:
        which = "held out" if compared == len(held_out) else "compared"
        say(
            f"only {compared} pictures are {which}: Frechet distances, precision, recall, density "
            "and coverage are rough; look at the pictures (--output)"
        )
    counted = zip(held_out.class_names, held_out.class_counts, strict=True)
    if missing := [name for name, count in counted if count == 0]:
        names = ", ".join(missing[:_MOST_NAMED]) + (", ..." if len(missing) > _MOST_NAMED else "")
        say(f"of {len(missing)} classes no picture is held out: {names}")


def _refuse(drawing: dict[str, object]) -> None:
    for name, value in drawing.items():
        if value is not None:
            raise UsageError(
                f"{name} is for drawing, and --samples are drawn already; leave it out (--data "
                "names what they are compared with)"
            )


def _print_figures(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        # Out before the report is drawn, whatever becomes of that.
        print(json.dumps(document, indent=2, allow_nan=False), flush=True)
        return

    from rich.console import Console
    from rich.table import Table

    runs, real = document["runs"], document["real"]
    table = Table(title=f"{runs[0]['images']:,} pictures", title_justify="left")
    table.add_column("")
    table.add_column("samples" if len(runs) == 1 else f"median of {len(runs)}", justify="right")
    if len(runs) > 1:
        table.add_column("from .. to", justify="right")
    table.add_column(f"{real['images']:,} test images", justify="right")
    for name, heading, form in _FIGURES:
        if document["median"][name] is None:
            continue
        cells = [form.format(document["median"][name])]
        if len(runs) > 1:
            cells.append(" .. ".join(form.format(document[end][name]) for end in ("low", "high")))
        cells.append("" if real[name] is None else form.format(real[name]))
        table.add_row(heading, *cells)
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(table)
    if runs[0]["images"] > real["images"]:
        console.print(
            "Frechet distances, precision, recall, density and coverage are means over "
            f"{runs[0]['parts']:,} x {real['images']:,} pictures, as many as there are test images"
        )
    shares = _shares_recognised(runs)
    if len(shares) <= _MAX_CLASSES:
        listed = "  ".join(f"{name} {share:.1%}" for name, share in shares.items())
        console.print(printable(f"Recognised, by label: {listed}"))


def _shares_recognised(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """By label, the share of its pictures that are recognised as it: the mean over all sets."""
    found: dict[str, list[float]] = {}
    for run in runs:
        for name, share in run["agreement_per_class"].items():
            if share is not None:  # the set has pictures of this label
                found.setdefault(name, []).append(share)
    return {name: fmean(shares) for name, shares in found.items()}
