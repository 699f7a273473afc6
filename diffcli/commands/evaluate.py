"""``diffcli evaluate``: judge a model, or pictures of any origin."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from diffcli.commands.options import (
    DeviceOption,
    ForceOption,
    GuidanceOption,
    SamplerOption,
    StepsOption,
)
from diffcli.commands.places import check_place, free_place
from diffcli.errors import UsageError

_MODEL, _WAY, _OUTPUT = "Model", "Way of sampling", "Output"
_DEFAULT_N = 10_000


def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A model file, or a run by folder or name.",
            show_default="newest run, else the shipped digits",
        ),
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(
            help="Judge these pictures instead: an npz with images and labels, or a folder with "
            "one folder per class.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            "-n",
            min=1,
            help="Pictures to draw and judge.",
            show_default=f"{_DEFAULT_N}",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Data set to compare with: a name, or a folder of class folders.",
            show_default="the model's; for --samples mnist",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    features: Annotated[
        str,
        typer.Option(
            help="Network to judge with: main, check, or a file that 'diffcli features' wrote.",
            rich_help_panel=_MODEL,
        ),
    ] = "main",
    cas: Annotated[
        bool,
        typer.Option(
            "--cas",
            help="Also train a classifier on the pictures alone, and test it on real ones.",
            rich_help_panel=_MODEL,
        ),
    ] = False,
    device: DeviceOption = "auto",
    sampler: SamplerOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**32 - 1,
            help="Seed of the first picture, and of the choice of real ones.",
            rich_help_panel=_WAY,
        ),
    ] = 0,
    seeds: Annotated[
        int,
        typer.Option(
            min=1,
            help="Sets of pictures to draw, each from seeds of its own; medians are reported.",
            rich_help_panel=_WAY,
        ),
    ] = 1,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Draw a report to this PNG.", rich_help_panel=_OUTPUT),
    ] = None,
    force: ForceOption = False,
    json: Annotated[
        bool, typer.Option("--json", help="Figures as JSON, not a table.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Judge how good a model's pictures are, by real ones: Frechet distance, labels, copies."""
    from dataclasses import asdict

    from diffcli.commands.devices import find_device
    from diffcli.commands.figures import print_figures
    from diffcli.commands.progress import StageDisplay
    from diffcli.data.sources import load_data
    from diffcli.evaluation.judge import Judge
    from diffcli.evaluation.provide import find_features
    from diffcli.evaluation.report import draw_report
    from diffcli.evaluation.samples import draw_samples, load_samples
    from diffcli.evaluation.summary import Evaluation
    from diffcli.files.models import find_model
    from diffcli.files.pictures import save_png
    from diffcli.model import Model

    if output:
        check_place(output)
    if samples:
        _refuse(
            {
                "MODEL": model, "--n": n, "--sampler": sampler, "--steps": steps,
                "--guidance": guidance, "--seeds": seeds if seeds > 1 else None,
            }
        )  # fmt: skip
    where = find_device(device)
    source = samples or find_model(model)
    drawer = settings = size = None
    if not samples:
        drawer = Model.load(source, where)
        settings = drawer.settings(sampler.value if sampler else None, steps, guidance)
        architecture = drawer.description.architecture
        size = (architecture.image_height, architecture.image_width)
        data = data or drawer.description.dataset
    data = data or "mnist"
    sets = load_data(data, size)
    judged = load_samples(samples, sets.train) if samples else None
    with StageDisplay(quiet=False) as display:
        _, network = find_features(
            features, sets.train, sets.held_out, where, display.stage("training a feature network")
        )
        judge = Judge(network, sets.train, sets.held_out, seed, display.show)
        if judged:
            sets_of_samples = iter([judged])
        elif drawer and settings:
            count = n or _DEFAULT_N
            judge.require(count, "samples")
            draw = display.stage("drawing samples")
            sets_of_samples = (
                draw_samples(drawer, sets.train, count, seed + index * count, settings, draw)
                for index in range(seeds)
            )
        evaluation = Evaluation(judge, sets.train.class_names)
        for pictures in sets_of_samples:
            evaluation.add(pictures, cas)
    document = {
        "judged": str(source),
        "data": data,
        "features": features,
        "settings": settings and asdict(settings),
        "seed": seed,
        **evaluation.document(),
    }
    if output:
        title = f"{source.name}: {len(pictures.labels):,} pictures, compared with {data}"
        report = free_place(output, force)
        save_png(report, draw_report(pictures, evaluation, sets.train, title))
        print(f"report: {report}", file=sys.stderr)
    print_figures(document, as_json=json)


def _refuse(ways_of_drawing: dict[str, object]) -> None:
    for name, value in ways_of_drawing.items():
        if value is not None:
            raise UsageError(f"--samples judges pictures that exist; leave {name} out")
