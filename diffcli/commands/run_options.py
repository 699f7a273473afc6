"""Options that the commands that train have in common, and the checks of their values."""

from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diffcli.commands.options import OUTPUT_PANEL, option, parse_duration
from diffcli.core.parameters import MAX_SEED
from diffcli.errors import UsageError
from diffcli.files.naming import is_kept_by_windows, is_unicode
from diffcli.training.config import RunConfig

if TYPE_CHECKING:
    from diffcli.training.run_folder import RunFolder

END_PANEL, DATA_PANEL, TRAINING_PANEL = "End of the run", "Data", "Training"
_DEFAULT_EPOCHS = 10.0
_MAX_EPOCHS = 1_000_000


NameOption = Annotated[
    str | None, option("Name of the run's folder in runs/.", shown="date and time")
]
ReplaceOption = Annotated[bool, option("Replace the run if it exists.", None, "--force")]
EpochsOption = Annotated[
    float | None, option("Stop after this many epochs.", END_PANEL, shown="10, if no limit")
]
MaxStepsOption = Annotated[int | None, option("Stop after this many steps.", END_PANEL, min=1)]
MaxTimeOption = Annotated[
    float | None,
    option(
        "Stop after a time: 90s, 10m, 1.5h.", END_PANEL, parser=parse_duration, metavar="<duration>"
    ),
]
DataDirOption = Annotated[
    Path | None,
    option("Folder for downloads.", DATA_PANEL, shown="cache folder", envvar="DIFFCLI_DATA_DIR"),
]
SeedOption = Annotated[
    int, option("Seed of all random choices.", TRAINING_PANEL, min=0, max=MAX_SEED)
]
TrainingDeviceOption = Annotated[
    str, option("Device: auto, cpu, cuda, cuda:1 or mps.", TRAINING_PANEL)
]
DryRunOption = Annotated[
    bool, option("Print the plan and stop before training.", OUTPUT_PANEL, "--dry-run")
]


@dataclass(frozen=True)
class Limits:
    """The limits of a run that a user gave.

    Raises:
        UsageError: if one is out of range.
    """

    epochs: float | None
    max_steps: int | None
    max_seconds: float | None

    def __post_init__(self) -> None:
        check_range("--epochs", self.epochs, _MAX_EPOCHS)

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    def or_default(self) -> "Limits":
        """The same, or if there are none, those of a run without any."""
        return self if self else Limits(_DEFAULT_EPOCHS, None, None)

    def applied(self, config: RunConfig) -> RunConfig:
        """A configuration with these limits."""
        return replace(config, **asdict(self))


def setting_sources(context: typer.Context) -> dict[str, str]:
    """Where the value of each parameter comes from: ``default``, ``commandline`` ..."""
    found = {name: context.get_parameter_source(name) for name in context.params}
    return {name: source.name.lower() for name, source in found.items() if source}


def new_folder(name: str | None, force: bool) -> "RunFolder":
    """The folder of a new run, which may be taken.

    Raises:
        UsageError: if it exists and must not be replaced, or another process is using it, or the
            name is none for a folder, or that of a shipped model.
    """
    from diffcli.files.locations import RUNS_FOLDER, SHIPPED_MODELS
    from diffcli.training.run_folder import RunFolder

    if name is None:
        name = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    own = Path(name).name == name and not name.startswith(".") and is_kept_by_windows(name)
    if not name or not own or not is_unicode(name):
        raise UsageError(f"--name {name!r} cannot be the name of a folder in {RUNS_FOLDER}/")
    if name in SHIPPED_MODELS:
        raise UsageError(f"--name {name} is the name of a shipped model; choose another one")
    folder = RunFolder(RUNS_FOLDER / name)
    if folder.is_in_use:
        raise UsageError(f"another process is using {folder.path}; choose another --name")
    folder.check_free(force)
    return folder


def check_range(option: str, value: float | None, most: float, zero: bool = False) -> None:
    """Check a number that must be positive, or may be 0.

    Args:
        option: that it is the value of.
        value: the number, if one is given.
        most: its upper bound.
        zero: whether it may be 0.

    Raises:
        UsageError: if it is out of range.
    """
    if value is not None and not (0 < value <= most or (zero and value == 0)):
        least = "at least" if zero else "above"
        raise UsageError(f"{option} must be {least} 0 and at most {most:,}, not {value:g}")
