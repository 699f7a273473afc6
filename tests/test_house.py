"""The rooms of the package, and which may know of which."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "diffcli"
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """The full names of all modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def top(name: str) -> str:
    return name.partition(".")[0]


def outside(path: Path) -> set[str]:
    """What a file imports that is neither of the standard library nor of this package."""
    return {top(name) for name in imports(path)} - sys.stdlib_module_names - {"diffcli"}


@pytest.fixture(params=MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def module(request: pytest.FixtureRequest) -> Path:
    path = request.param
    assert isinstance(path, Path)
    return path


def test_only_declared_dependencies_are_imported(module: Path) -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    declared = {line.partition(">")[0] for line in project["dependencies"]}
    names = {"PIL" if name == "pillow" else name for name in declared}
    # torchvision depends on numpy, and so brings it along.
    assert outside(module) <= names | {"numpy"}


def test_commands_are_known_to_no_other_room(module: Path) -> None:
    if room(module) not in ("commands", "__main__"):
        assert not [name for name in imports(module) if name.startswith("diffcli.commands")]
        assert not outside(module) & {"typer", "rich"}


def test_the_mathematics_knows_torch_alone(module: Path) -> None:
    if room(module) == "core":
        assert outside(module) <= {"torch"}
        own = {name for name in imports(module) if top(name) == "diffcli"}
        assert all(name.startswith("diffcli.core.") for name in own)


def test_nothing_is_ever_unpickled(module: Path) -> None:
    names = {top(name) for name in imports(module)}
    assert not names & {"pickle", "shelve", "marshal", "dill", "joblib"}
    tree = ast.parse(module.read_text(encoding="utf-8"))
    calls = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [call for call in calls if call.startswith(("torch.load(", "eval(", "exec("))]
    assert not [call for call in calls if "allow_pickle=True" in call]
