"""Two processes with half of each batch train the model that one process trains."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from diffcli import device
from diffcli.core.denoiser import Denoiser
from diffcli.core.schedule import NoiseSchedule
from diffcli.training import trainer
from diffcli.training.config import RunConfig
from diffcli.training.distributed import Distributed
from diffcli.training.recipe import RECIPES
from diffcli.training.trainer import WARMUP_STEPS, Trainer
from tests import tiny
from tests.conftest import Command
from tests.training.pictures import tiny_digits, write_folder

TRAIN = ("-m", "diffcli", "train")
OPTIONS = ("--batch-size", "7", "--seed", "5", "-q")


def torchrun(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a module or a script in two processes."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *map(str, command),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@contextmanager
def in_float32() -> Iterator[None]:
    """A block that trains in float32, where the order of sums hardly counts."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (device, trainer):
            patch.setattr(module, "has_native_bfloat16", lambda _: False)
        yield


def make_trainer(distributed: Distributed) -> Trainer:
    """One that draws all that can be drawn for a batch.

    No weight of the network is zero, so that all get gradients.
    """
    recipe = replace(RECIPES["fast"], batch_size=7, augmentation=0.3, label_dropout=0.3)
    network = tiny.network(replace(tiny.config(), augmented=True))
    schedule = NoiseSchedule.from_config(recipe.schedule)
    denoiser = Denoiser(network, schedule, recipe.prediction_type)
    return Trainer(denoiser, tiny_digits(30), RunConfig(recipe=recipe, flip=True), distributed)


def gradient(distributed: Distributed) -> Tensor:
    """All numbers of the gradient of one process, before the processes exchange them."""
    with in_float32():
        made = make_trainer(distributed)
        made._loss().backward()
    grads = [param.grad for param in made.denoiser.parameters()]
    return torch.cat([grad.flatten() for grad in grads if grad is not None])


def test_the_gradients_of_two_halves_of_a_batch_add_up_to_that_of_the_whole() -> None:
    """So an image has the same noise, timestep, label and changes in whichever process it is."""
    whole, first, last = map(gradient, (Distributed(), Distributed(0, 2), Distributed(1, 2)))
    for half in (first, last):
        assert (half - whole / 2).norm() > 0.1 * whole.norm()
    assert (first + last - whole).norm() < 1e-5 * whole.norm()


def stepped(distributed: Distributed) -> dict[str, Tensor]:
    """The loss of one step at the full learning rate, and the state that it leaves.

    That is the weights, on whose steps the size of a gradient has no influence, and the averages
    of the optimizers, which are in proportion to it.
    """
    with in_float32():
        made = make_trainer(distributed)
        made.steps_done = WARMUP_STEPS
        loss = made.step(0.0)
    return {name: tensor.contiguous() for name, tensor in {**made.state(), "loss": loss}.items()}


STEP = """
from safetensors.torch import save_file
from diffcli.training.distributed import join_processes
from tests.training.test_distributed import stepped

with join_processes() as distributed:
    save_file(stepped(distributed), f"{distributed.rank}.safetensors")
"""


@pytest.mark.process
def test_a_step_of_two_processes_is_the_step_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (tmp_path / "script.py").write_text(STEP)
    done = torchrun(tmp_path, "script.py")
    assert done.returncode == 0, done.stderr
    first, last = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    alone = stepped(Distributed())
    assert first.keys() == last.keys() == alone.keys()
    for name, expected in alone.items():
        assert torch.equal(first[name], last[name]), name
        torch.testing.assert_close(first[name], expected, rtol=1e-4, atol=1e-6)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("pictures"), tiny_digits(30))


@pytest.fixture(scope="module")
def alone(
    pictures: Path, tmp_path_factory: pytest.TempPathFactory, diffcli_process: Command
) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    done = diffcli_process(
        "train", "--data", pictures, "--name", "a", "--max-steps", "20", *OPTIONS, cwd=folder
    )
    assert done.code == 0, done.err
    return folder / "runs" / "a"


@pytest.mark.process
def test_two_processes_are_one_and_resume_with_another_number(
    pictures: Path, alone: Path, tmp_path: Path, diffcli_process: Command
) -> None:
    options = ("--data", pictures, "--name", "a", "--max-steps", "12", *OPTIONS)
    done = torchrun(tmp_path, *TRAIN, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("runs") == 1
    run = tmp_path / "runs" / "a"
    # Sums in another order round differently, in bfloat16 by up to half a per cent, and each
    # step starts from what the one before made of it.
    first, second, *_ = losses(run)
    assert first == pytest.approx(losses(alone)[0], rel=1e-3)
    assert second == pytest.approx(losses(alone)[1], rel=6e-2)

    resumed = diffcli_process("train", "--resume", "a", "--max-steps", "20", "-q", cwd=tmp_path)
    assert resumed.code == 0, resumed.err
    ours, theirs = load_file(run / "state.safetensors"), load_file(alone / "state.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(bool(torch.isfinite(tensor).all()) for tensor in ours.values())


@pytest.mark.process
def test_an_error_of_one_ends_all(tmp_path: Path) -> None:
    done = torchrun(tmp_path, *TRAIN, "--data", tmp_path / "nowhere", "--name", "a", *OPTIONS)
    assert done.returncode != 0
    assert "neither a path nor one of" in done.stderr
    assert not (tmp_path / "runs").exists()


LEADER_FIRST = """
import sys, time
from pathlib import Path
from diffcli.training.distributed import join_processes

mark = Path(sys.argv[1])
with join_processes() as distributed, distributed.leader_first():
    if distributed.is_leader:
        time.sleep(1)
        mark.touch()
    elif not mark.exists():
        sys.exit("the leader was not first")
"""


@pytest.mark.process
def test_the_leader_downloads_first(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(LEADER_FIRST)
    done = torchrun(tmp_path, "script.py", "mark")
    assert done.returncode == 0, done.stderr
