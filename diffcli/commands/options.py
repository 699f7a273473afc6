"""Options that several commands have, so that they are the same in all of them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_MODEL, _WAY, _OUTPUT = "Model", "Way of sampling", "Output"


class SamplerName(StrEnum):
    """The samplers, as the command line names them."""

    ddpm = "ddpm"
    ddim = "ddim"
    dpmpp = "dpmpp"
    dpmpp_sde = "dpmpp-sde"


ModelOption = Annotated[
    Path | None,
    typer.Option(
        help="A model file, or a run by folder or name.",
        show_default="newest run, else digits",
        rich_help_panel=_MODEL,
    ),
]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=_MODEL)
]
SamplerOption = Annotated[
    SamplerName | None,
    typer.Option(
        help="ddpm and dpmpp-sde add noise on the way; ddpm takes all T steps unless told.",
        show_default="the model's",
        rich_help_panel=_WAY,
    ),
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        help="Steps of the sampler, 1 to T.", show_default="the model's", rich_help_panel=_WAY
    ),
]
GuidanceOption = Annotated[
    float | None,
    typer.Option(
        help="1 is plain conditional, 0 ignores the label.",
        show_default="the model's",
        rich_help_panel=_WAY,
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Overwrite what exists.", rich_help_panel=_OUTPUT)
]
