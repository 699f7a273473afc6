"""The files of a run."""

from dataclasses import asdict
from pathlib import Path

import pytest

from diffcli.errors import DiffcliError, UsageError
from diffcli.figures import losses
from diffcli.files.weights import save_weights
from diffcli.training import run_folder
from diffcli.training.run_folder import STATE_FILE, Metrics, Position, RunFolder
from tests.training.runs import tiny_config


def line(step: int, held_out: float | None) -> Metrics:
    quarters = None if held_out is None else (held_out,) * 4
    return Metrics(step, 0, 64 * step, 1.0, held_out, quarters)


def test_the_loss_chart_has_each_loss_on_held_out_images_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every later line of the metrics repeats the last one."""
    drawn: list[list[losses.Check]] = []

    def record(seen: list[int], values: list[float], checks: list[losses.Check]) -> object:
        drawn.append(checks)
        return losses.loss_chart(seen, values, checks)

    monkeypatch.setattr(run_folder, "loss_chart", record)
    folder = RunFolder(tmp_path)
    folder.save_loss_chart()
    assert drawn == []
    for step in range(1, 20):
        folder.append_metrics(line(step, None if step < 3 else 0.9 if step < 10 else 0.8))
    folder.save_loss_chart()
    assert [(check.images_seen, check.loss) for check in drawn[0]] == [(192, 0.9), (640, 0.8)]
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_metrics_without_a_last_line_that_was_cut_off(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (1, 2, 3):
        folder.append_metrics(line(step, 0.5))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4')
    assert [found.step for found in folder.metrics()] == [1, 2, 3]
    folder.forget_metrics_after(2)
    assert [found.step for found in folder.metrics()] == [1, 2]
    folder.forget_metrics_after(0)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_run_that_was_being_replaced_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    """It was put aside, and the new one was not in its place yet."""
    folder = RunFolder(tmp_path / "run")
    folder.create(tiny_config(seed=1), force=False)
    folder.path.rename(tmp_path / ".run.old")
    with pytest.raises(UsageError, match="run exists"):
        folder.create(tiny_config(seed=2), force=False)
    assert folder.config().seed == 1
    folder.create(tiny_config(seed=3), force=True)
    assert folder.config().seed == 3
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(("steps", "seconds"), [(-1, 0.0), (10**400, 0.0), (3, -1.0)])
def test_a_position_that_no_run_can_have_is_refused(
    steps: int, seconds: float, tmp_path: Path
) -> None:
    position = asdict(Position(3, 1.0, ())) | {"steps_done": steps, "seconds": seconds}
    save_weights(tmp_path / STATE_FILE, position, {})
    with pytest.raises(DiffcliError, match=r"cannot go on from .* is out of range"):
        RunFolder(tmp_path).position()
