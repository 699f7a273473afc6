"""The files of a run."""

from pathlib import Path

import pytest

from diffcli.figures import losses
from diffcli.training import run_folder
from diffcli.training.run_folder import Metrics, RunFolder


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
