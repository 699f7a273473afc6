"""Where models are: runs in the working folder, and the one that is shipped."""

from importlib import resources
from pathlib import Path

from diffcli.errors import UsageError

RUNS_FOLDER = Path("runs")
MODEL_FILE = "model.safetensors"


def shipped_file(name: str) -> Path:
    """A file of ``models/``: in the installed package, or in the checkout of an editable one."""
    installed = Path(str(resources.files("diffcli").joinpath("models", name)))
    if installed.exists():
        return installed
    return Path(__file__).parents[2] / "models" / name


def newest_run(runs: Path = RUNS_FOLDER) -> Path | None:
    """The model file of the run that was written to last, if there is any."""
    models = [path for path in runs.glob(f"*/{MODEL_FILE}") if path.is_file()]
    return max(models, key=lambda path: path.stat().st_mtime, default=None)


def find_model(named: Path | None) -> Path:
    """The model to use: the named file or run folder, else the newest run, else the shipped one.

    Raises:
        UsageError: if the named one does not exist.
    """
    if named is None:
        return newest_run() or shipped_file("mnist.safetensors")
    candidates = [named, named / MODEL_FILE, RUNS_FOLDER / named / MODEL_FILE]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise UsageError(
        f"there is no model {named}: name a .safetensors file, a run folder, or a run under "
        f"{RUNS_FOLDER}/"
    )
