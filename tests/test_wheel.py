"""What is shipped: the wheel, in an environment of its own, outside the checkout."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from diffcli import __version__
from diffcli.data.images import to_model_range
from diffcli.data.mnist import load_mnist

pytestmark = pytest.mark.process

CHECKOUT = Path(__file__).parents[1]
DIGIT, GAP = 28, 2
ROWS, COLUMNS = 10, 8


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DIFFCLI"))}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=CHECKOUT)
    (path,) = folder.iterdir()
    return path


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, which so has to hold all that it takes."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``diffcli`` of an environment into which only the wheel was installed.

    What it depends on is borrowed from the environment of the tests, since torch alone takes
    minutes to install; what comes first on the path is its own.
    """
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False)
    scripts = place / ("Scripts" if sys.platform == "win32" else "bin")
    python = scripts / ("python.exe" if sys.platform == "win32" else "python")
    own = Path(
        run(
            python, "-c", "import site; print(site.getsitepackages()[-1])", cwd=place
        ).stdout.strip()
    )
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install"),
        *("--no-index", "--no-deps", "--force-reinstall", "--quiet", wheel),
        cwd=place,
    )
    where = run(python, "-c", "import diffcli; print(diffcli.__file__)", cwd=place).stdout.strip()
    assert Path(where).is_relative_to(own)
    return scripts / "diffcli"


def files_below(folder: Path) -> set[str]:
    return {
        path.relative_to(CHECKOUT).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_the_package_the_data_and_the_models(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = {name.partition("/")[2] for name in names if ".dist-info/" in name}
        entry_points = archive.read(f"diffcli-{__version__}.dist-info/entry_points.txt").decode()
    models = {f"diffcli/{name}" for name in files_below(CHECKOUT / "models")}
    expected = files_below(CHECKOUT / "diffcli") | models
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert {
        "diffcli/py.typed",
        "diffcli/data/mnist/README.md",
        "diffcli/data/mnist/train-images.idx.xz",
        "diffcli/models/README.md",
        "diffcli/models/mnist.safetensors",
    } <= names
    assert {"METADATA", "licenses/LICENSE", "licenses/diffcli/data/mnist/README.md"} <= metadata
    assert entry_points == "[console_scripts]\ndiffcli = diffcli.__main__:main\n"
    assert wheel.stat().st_size < 30 << 20


def test_the_sdist_holds_the_tests_too_and_nothing_else(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers()}
    folders = ("diffcli", "models", "tests")
    expected = set().union(*(files_below(CHECKOUT / name) for name in folders))
    others = {"README.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore"}
    assert names == expected | others


def test_the_installed_command_says_its_version(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "--version", cwd=tmp_path).stdout == f"diffcli {__version__}\n"


def nearest_neighbours(digits: Tensor, count: int = 3) -> Tensor:
    """The commonest label among the nearest of the 60,000 training digits: an honest oracle.

    No network has a part in it, so it cannot share a fault with the model.
    """
    known = load_mnist("train")
    references = to_model_range(known.images).flatten(1)
    squares = references.square().sum(dim=1)
    labels = []
    for part in to_model_range(digits).flatten(1).split(250):
        distances = squares - 2 * part @ references.T
        labels.append(known.labels[distances.topk(count, largest=False).indices].mode().values)
    return torch.cat(labels)


def test_the_oracle_knows_real_digits() -> None:
    real = load_mnist("test")
    some = torch.arange(0, len(real), 20)
    assert (nearest_neighbours(real.images[some]) == real.labels[some]).float().mean() > 0.95


def test_the_installed_command_draws_digits_that_are_recognised(
    installed: Path, tmp_path: Path
) -> None:
    done = run(
        *(
            installed,
            "sample",
            "--label",
            "0-9",
            "--n",
            str(COLUMNS),
            "--seed",
            "1",
            "-o",
            "grid.png",
        ),
        cwd=tmp_path,
    )
    assert done.stdout == "grid.png\n"
    assert done.stderr.startswith("model: mnist\n")
    cell = DIGIT + GAP
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.size == (COLUMNS * cell + GAP, ROWS * cell + GAP)
        pixels = torch.frombuffer(bytearray(grid.convert("L").tobytes()), dtype=torch.uint8)
    cells = pixels.view(grid.height, grid.width)[GAP:, GAP:].unfold(0, cell, cell)
    digits = cells.unfold(1, cell, cell)[:, :, :DIGIT, :DIGIT].flatten(0, 1)
    wanted = torch.arange(ROWS).repeat_interleave(COLUMNS)
    assert (nearest_neighbours(digits) == wanted).float().mean() > 0.85
