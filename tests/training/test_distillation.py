"""Runs that distil a model."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import SamplingSettings
from diffcli.errors import DiffcliError
from diffcli.files.checkpoint import fingerprint, load_model
from diffcli.training.config import Distillation
from diffcli.training.objectives import Batch, DistributionMatching
from diffcli.training.run_folder import (
    TEACHER_FILE,
    RunFolder,
)
from diffcli.training.validation import Validation
from tests import tiny
from tests.training.runs import CPU, create, data, distilling_config, reopen, stop_after

pytestmark = pytest.mark.long


def test_a_student_starts_as_its_teacher_and_says_so(tmp_path: Path) -> None:
    run = create(tmp_path / "run", distilling_config())
    for name, tensor in tiny.network().state_dict().items():
        assert torch.equal(run.trainer.denoiser.network.state_dict()[name], tensor)
        assert torch.equal(run.trainer.ema.network.state_dict()[name], tensor)
    list(run.train(stop_after(6)))
    description, student = load_model(tmp_path / "run" / "model.safetensors")
    assert description.sampling == SamplingSettings("consistency", 2)
    told = Distillation("tiny", fingerprint(tmp_path / "run" / TEACHER_FILE), 1.5, None)
    assert description.training["distilled_from"] == asdict(told)
    _, teacher = load_model(tmp_path / "run" / TEACHER_FILE)
    assert not torch.equal(student.network.stem.weight, teacher.network.stem.weight)
    assert torch.equal(teacher.network.stem.weight, tiny.network().stem.weight)


def test_a_distillation_has_the_loss_of_its_teacher_in_training_and_validation(
    tmp_path: Path,
) -> None:
    config = distilling_config()
    assert config.distillation is not None
    run = create(tmp_path / "run", config)
    used = run.trainer.objective
    assert used.critic is not None
    expected = DistributionMatching(
        tiny.denoiser(), used.critic, config.distillation.guidance, steps=2
    )
    compared = []

    class Comparing:
        critic = used.critic

        def __call__(self, denoiser: Denoiser, batch: Batch, step: int) -> Tensor:
            assert batch.augmentation is None
            noise = [batch.draw_noise() for _ in range(6)]
            losses, again = (
                matching(denoiser, batch._replace(draw_noise=iter(noise).__next__), step)
                for matching in (used, expected)
            )
            torch.testing.assert_close(losses, again)
            compared.append(step)
            return losses

    run.trainer.objective = Comparing()
    list(run.train(stop_after(6)))
    assert compared == [*range(6)]

    run = reopen(tmp_path / "run")
    list(run.train(lambda: False))
    last = RunFolder(tmp_path / "run").metrics()[-1]
    critic = run.trainer.objective.critic
    assert critic is not None
    validation = Validation(data().held_out, tiny.COSINE.num_timesteps, CPU)
    assert last.validation_quarters == pytest.approx(validation.quarters(critic))


def test_without_its_teacher_a_distillation_does_not_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    list(create(folder, distilling_config()).train(stop_after(3)))
    (folder / TEACHER_FILE).unlink()
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(DiffcliError, match=TEACHER_FILE):
        reopen(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
