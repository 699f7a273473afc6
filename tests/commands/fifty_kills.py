"""The program of ``test_fifty_kills_lose_nothing``, whose argument is a folder of pictures.

In a process of its own: it forks, which a process that has threads already must not.
"""

import os
import random
import signal
import sys
import time
from importlib import import_module
from pathlib import Path

import torch

from diffcli.commands.app import app
from diffcli.files.checkpoint import load_model

MODEL = Path("runs/a/model.safetensors")


def born(options: list[str]) -> int:
    """The number of a process that trains."""
    child = os.fork()
    if child == 0:
        app(["train", "-q", *options])
    return child


def kill(child: int, life: int) -> None:
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, life


def seconds_to_a_model(options: list[str]) -> float:
    """How long it takes on this machine, with all else that it does now, to train and save one."""
    start = time.monotonic()
    child = born(["--name", "usual", *options])
    while not Path("runs/usual/model.safetensors").exists():
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(0.01)
    kill(child, -1)
    return time.monotonic() - start


def main(pictures: str) -> None:
    """Fork, train, kill: forking spares each life the loading of everything."""
    for name in ("data.sources", "training.plan", "training.run"):
        import_module(f"diffcli.{name}")

    torch.set_num_threads(1)
    random.seed(0)
    # A small network and many images a step, so that models are saved often.
    options = ["--data", pictures, "--max-steps", "100000", "--batch-size", "20", "--width", "16"]
    usual = seconds_to_a_model(options)
    steps = [0]
    for life in range(50):
        started = Path("runs/a").exists()
        child = born(["--resume", "a"] if started else ["--name", "a", *options])
        # Some die before there is a model, and some while another one is written.
        time.sleep(random.uniform(0.02, 2) * usual)
        kill(child, life)
        if MODEL.exists():
            steps.append(load_model(MODEL)[0].training["steps"])
    assert steps == sorted(steps)
    assert steps[-1] > 0
    print("50 kills survived")


if __name__ == "__main__":
    main(sys.argv[1])
