"""``diffcli info``: all that a file says of itself, without torch."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from diffcli.files.checkpoint import save_model
from diffcli.files.locations import shipped_file
from tests import tiny
from tests.conftest import Command


def test_the_metadata_of_a_model(diffcli: Command, model: Path) -> None:
    found = json.loads(diffcli("info", model, "--json").out)
    assert found["kind"] == "model"
    assert found["bytes"] == model.stat().st_size
    assert found["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert found["parameters"] == sum(w.numel() for w in tiny.network().parameters())
    assert found["metadata"]["class_names"] == ["zero", 'o"ne', "zwei ü"]
    assert found["metadata"]["schedule"]["num_timesteps"] == 20


def test_a_run_is_its_model(diffcli: Command, model: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.safetensors").write_bytes(model.read_bytes())
    found = json.loads(diffcli("info", run, "--json").out)
    assert found["file"] == str(run / "model.safetensors")
    assert diffcli("info", tmp_path).is_one_line_error(2, "there is no model")


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.webp", "a.apng"])
def test_a_picture_has_its_settings_as_metadata(
    diffcli: Command, model: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    diffcli("sample", "--model", model, "-l", "2", "-n", "2", "--seed", "5", "-o", path)
    found = json.loads(diffcli("info", path, "--json").out)
    assert found["kind"] == "picture"
    assert found["metadata"]["request"]["labels"] == [2]
    assert found["metadata"]["request"]["seed"] == 5
    assert found["metadata"]["class_names"] == ["zwei ü"]
    assert found["metadata"]["model"]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()


def test_the_table_has_the_same(diffcli: Command, model: Path) -> None:
    lines = [line.split(maxsplit=1) for line in diffcli("info", model).out.splitlines()]
    rows = {line[0]: line[1] for line in lines if len(line) == 2}
    assert rows["architecture.channels"].strip() == "32, 32"
    assert rows["class_names"].strip() == 'zero, o"ne, zwei ü'
    assert rows["sampling.sampler"].strip() == "dpmpp"


@pytest.mark.process
def test_it_does_not_wait_for_torch(model: Path) -> None:
    code = (
        "import sys\n"
        "from diffcli.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as left: assert not left.code\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "info", model], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_control_characters_do_not_reach_the_terminal(diffcli: Command, tmp_path: Path) -> None:
    path = tmp_path / "strange.safetensors"
    description = replace(
        tiny.description(), dataset="\x1b]0;title\x07[red]x", training={"a\x1b[2J": "[bold]\n"}
    )
    save_model(path, description, tiny.network().state_dict())
    shown = diffcli("info", path).out
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[red]x" in shown
    assert "[bold]" in shown


@pytest.mark.parametrize("name", ["A.SAFETENSORS", "without-suffix"])
def test_a_model_may_have_any_name(
    diffcli: Command, model: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(model.read_bytes())
    found = json.loads(diffcli("info", tmp_path / name, "--json").out)
    expected = json.loads(diffcli("info", model, "--json").out)
    assert found == expected | {"file": str(tmp_path / name)}


def test_the_name_of_a_shipped_model_is_that_model(
    diffcli: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mnist").write_bytes(model.read_bytes())
    found = json.loads(diffcli("info", "mnist", "--json").out)
    assert found["file"] == str(shipped_file("mnist.safetensors"))
    found = json.loads(diffcli("info", tmp_path / "mnist", "--json").out)
    assert found["file"] == str(tmp_path / "mnist")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_a_device_is_not_read(diffcli: Command) -> None:
    result = diffcli("info", "/dev/zero")
    assert result.is_one_line_error(2, "/dev/zero is not a regular file; name a picture or a model")


def test_what_is_no_model_and_no_picture_is_not_read_to_its_end(
    diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(hashlib, "file_digest")
    for name in ("a.iso", "a.safetensors"):
        (tmp_path / name).write_bytes(bytes(100))
        assert diffcli("info", tmp_path / name).is_one_line_error(1, name)


def test_other_files_are_one_line(diffcli: Command, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.png").write_bytes(b"\x89PNG and then nothing")
    (tmp_path / "c").touch()
    for name in ("a.txt", "b.png", "c"):
        assert diffcli("info", tmp_path / name).is_one_line_error(1, str(tmp_path))
