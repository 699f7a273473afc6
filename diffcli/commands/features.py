"""``diffcli features``: train the network that ``diffcli evaluate`` judges with."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from diffcli.commands.options import ForceOption
from diffcli.commands.places import check_place, free_place


class RoleOption(StrEnum):
    """Which network of a data set, as the command line names them."""

    main = "main"
    check = "check"


def features(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The file to write, for evaluate --features.",
            rich_help_panel="Output",
        ),
    ],
    role: Annotated[
        RoleOption,
        typer.Argument(
            help="main is judged with; check has another architecture and seed, and shows "
            "whether a figure is an accident of the first."
        ),
    ] = RoleOption.main,
    data: Annotated[
        str, typer.Option(help="Data set: a name, or a folder of class folders.")
    ] = "mnist",
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Times that every picture is seen.", show_default="6 or more"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**32 - 1, help="Seed.", show_default="0, for check 1"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    force: ForceOption = False,
) -> None:
    """Train a feature network, as evaluate does by itself for a data set that has none yet."""
    import sys

    from diffcli.commands.devices import find_device
    from diffcli.commands.progress import StageDisplay
    from diffcli.data.sources import load_data
    from diffcli.evaluation.provide import train_features
    from diffcli.evaluation.storage import save_features

    check_place(output)
    where = find_device(device)
    sets = load_data(data)
    with StageDisplay(quiet=False) as display:
        description, network = train_features(
            role.value,
            sets.train,
            sets.held_out,
            where,
            seed,
            epochs,
            display.stage("training"),
        )
    place = free_place(output, force)
    save_features(place, description, network)
    accuracy = description.training["test_accuracy"]
    print(f"{accuracy:.2%} of the held-out images recognised", file=sys.stderr)
    print(place)
