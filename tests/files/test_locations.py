import os
from pathlib import Path

import pytest

from diffcli.errors import UsageError
from diffcli.files.locations import SHIPPED_MODELS, find_model, shipped_file, shipped_name, title_of


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three runs, of which the one in the middle of the alphabet was written to last."""
    monkeypatch.chdir(tmp_path)
    for age, name in ((30, "a"), (10, "b"), (20, "c")):
        model = tmp_path / "runs" / name / "model.safetensors"
        model.parent.mkdir(parents=True)
        model.touch()
        os.utime(model, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "runs" / "unfinished").mkdir()
    return tmp_path / "runs"


def test_the_newest_run_comes_first(runs: Path) -> None:
    assert find_model() == Path("runs/b/model.safetensors")


def test_a_run_that_is_removed_meanwhile_is_left_out(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_file = Path.is_file

    def then_remove(path: Path) -> bool:
        found = is_file(path)
        if path.parent.name == "b":
            path.unlink()
        return found

    monkeypatch.setattr(Path, "is_file", then_remove)
    assert find_model() == Path("runs/c/model.safetensors")


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_a_shipped_model_is_known_by_every_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = shipped_file(f"{name}.safetensors")
    assert shipped_name(file) == name
    assert shipped_name(file.parent / ".." / file.parent.name / file.name) == name
    (tmp_path / file.name).write_bytes(b"another one")
    assert shipped_name(tmp_path / file.name) is None
    if os.name != "nt":
        (tmp_path / "link").symlink_to(file)
        assert shipped_name(tmp_path / "link") == name
    monkeypatch.chdir(file.parent)
    assert shipped_name(Path(file.name)) == name


def test_titles_are_names_of_shipped_models_runs_or_files(tmp_path: Path) -> None:
    assert title_of(shipped_file("mnist.safetensors")) == "mnist"
    for name in ("bars/model.safetensors", "four.safetensors"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"a model")
    assert title_of(tmp_path / "bars" / "model.safetensors") == "bars"
    assert title_of(tmp_path / "four.safetensors") == "four.safetensors"


def test_without_runs_the_shipped_model_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_model() == shipped_file("mnist.safetensors")
    assert shipped_file("README.md").is_file()


@pytest.mark.parametrize("named", ["runs/a/model.safetensors", "runs/a", "a"])
def test_a_model_goes_by_file_folder_or_name(runs: Path, named: str) -> None:
    assert find_model(Path(named)).resolve() == runs / "a" / "model.safetensors"


@pytest.mark.parametrize("name", SHIPPED_MODELS)
def test_a_shipped_model_goes_by_its_name_whatever_else_has_it(runs: Path, name: str) -> None:
    for own in (runs / name / "model.safetensors", Path(name, "model.safetensors")):
        own.parent.mkdir()
        own.touch()
    assert find_model(Path(name)) == shipped_file(f"{name}.safetensors")
    assert find_model(Path(name)).is_file()
    assert find_model(Path("runs", name)).resolve() == runs / name / "model.safetensors"


def test_a_run_without_a_model_is_told_from_none(runs: Path) -> None:
    (runs / "young").mkdir()
    (runs / "young" / "config.json").write_text("{}")
    for named in ("young", "runs/young"):
        with pytest.raises(UsageError, match=r"the run runs.young has no model yet: train it"):
            find_model(Path(named))


@pytest.mark.parametrize("named", ["nowhere", "unfinished", "runs", "."])
def test_what_is_no_model_is_wrong_usage(runs: Path, named: str) -> None:
    with pytest.raises(UsageError, match=f"there is no model {named}: it must be"):
        find_model(Path(named))
