"""Where models and cached files are."""

import os
from contextlib import suppress
from importlib import resources
from pathlib import Path

from platformdirs import user_cache_path

from diffcli.errors import UsageError

RUNS_FOLDER = Path("runs")
MODEL_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
SHIPPED_MODELS = ("mnist", "mnist-2step")
"""The models of the package by name, the usual one first."""


def shipped_file(name: str) -> Path:
    """A file of ``models/``: in the installed package, or in the checkout of an editable one."""
    installed = Path(str(resources.files("diffcli").joinpath("models", name)))
    if installed.exists():
        return installed
    return Path(__file__).parents[2] / "models" / name


def shipped_name(path: Path) -> str | None:
    """The name of a model of the package, by whatever path or link; None for another one.

    Args:
        path: that exists.
    """
    for name in SHIPPED_MODELS:
        file = shipped_file(f"{name}.safetensors")
        if file.exists() and file.samefile(path):
            return name
    return None


def title_of(path: Path) -> str:
    """What a model or pictures are called: by the package, by a run, or by the file itself."""
    run = path.resolve().parent.name if path.name == MODEL_FILE else None
    return shipped_name(path) or run or path.name


def model_text(path: Path) -> str:
    """A model's path, or its name if the package has it, in a line that says which one is used."""
    return f"model: {shipped_name(path) or path}"


def find_model(wanted: Path | None = None) -> Path:
    """The path of a model.

    Args:
        wanted: the name of a shipped model, a file, a run's folder, or a run's name in ``runs/``.
            If None: the model in ``runs/`` that was written last, or else the first shipped one.

    Raises:
        UsageError: if there is no such model.
    """
    if wanted is None:
        return usual_models()[0]
    if str(wanted) in SHIPPED_MODELS:
        return shipped_file(f"{wanted}.safetensors")
    for candidate in (wanted, wanted / MODEL_FILE, RUNS_FOLDER / wanted / MODEL_FILE):
        if candidate.is_file():
            return candidate
    for folder in (wanted, RUNS_FOLDER / wanted):
        if (folder / CONFIG_FILE).is_file():
            raise UsageError(
                f"the run {folder} has no model yet: train it further, or name another model",
                "model",
            )
    raise UsageError(
        f"there is no model {wanted}: it must be a .safetensors file, a run's folder, the name of "
        f"a run in {RUNS_FOLDER}/, or {' or '.join(SHIPPED_MODELS)}",
        "model",
    )


def usual_models() -> list[Path]:
    """The models in ``runs/``, the one that was written last first, and then those shipped."""
    written: dict[Path, float] = {}
    for path in RUNS_FOLDER.glob(f"[!.]*/{MODEL_FILE}"):
        with suppress(OSError):  # gone since then, or in a folder that may not be read
            if path.is_file():
                written[path] = path.stat().st_mtime
    models = sorted(written, key=written.__getitem__, reverse=True)
    return [*models, *(shipped_file(f"{name}.safetensors") for name in SHIPPED_MODELS)]


def cache_folder() -> Path:
    """``DIFFCLI_DATA_DIR`` if set, else the platform's cache folder; it may not exist yet."""
    chosen = os.environ.get("DIFFCLI_DATA_DIR")
    return Path(chosen) if chosen else user_cache_path("diffcli", appauthor=False)
