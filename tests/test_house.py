"""The packages, which may know of which, and what the pages say of them."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

# From the ground up: a package or module knows those before it.
PARTS = (
    "errors", "threads", "core", "device", "files", "data", "charts", "sampling", "evaluation",
    "figures", "page", "training", "commands", "__main__",
)  # fmt: skip

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


def part(path: Path) -> str:
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
    assert outside(module) <= names


def test_parts_know_only_those_below_them(module: Path) -> None:
    if part(module) == "__init__":
        return
    known = {name.split(".")[1] for name in imports(module) if name.startswith("diffcli.")}
    assert known - {"__version__"} <= set(PARTS[: PARTS.index(part(module)) + 1])


def test_the_parts_are_those_of_the_architecture_page() -> None:
    page = (PACKAGE / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)/?`", row)]
    assert [name for name in named if name in PARTS] == [*PARTS[:-1]]
    for file in re.findall(r"`(\w+/\w+\.py)`", page):
        assert (PACKAGE / file).is_file(), file


def test_only_commands_name_options(module: Path) -> None:
    """Whoever calls the package from Python has no command line."""
    if part(module) == "commands":
        return
    tree = ast.parse(module.read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert not [text for text in texts if isinstance(text, str) and re.search(r"(^|\s)--\w", text)]


def test_commands_are_known_to_no_other_part(module: Path) -> None:
    if part(module) not in ("commands", "__main__"):
        assert not [name for name in imports(module) if name.startswith("diffcli.commands")]
        assert not outside(module) & {"typer", "rich"}


def test_the_mathematics_imports_torch_alone(module: Path) -> None:
    if part(module) == "core":
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


PAGES = [
    CHECKOUT / name
    for name in (
        "README.md",
        "diffcli/README.md",
        "models/README.md",
        "tests/README.md",
        "tests/benchmarks/README.md",
        "tests/benchmarks/EXPERIMENTS.md",
        ".github/CONTRIBUTING.md",
    )
]


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_code_in_the_readme_is_code_of_the_package() -> None:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    excerpts = re.findall(r"```python\n# (diffcli/\S+)\n(.*?)```", text, re.DOTALL)
    assert len(excerpts) >= 2
    for path, code in excerpts:
        assert code in (CHECKOUT / path).read_text(encoding="utf-8"), path
