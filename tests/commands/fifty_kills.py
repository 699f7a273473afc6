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


def main(pictures: str) -> None:
    """Fork, train, kill: forking spares each life the loading of everything."""
    for name in ("data.sources", "training.plan", "training.run"):
        import_module(f"diffcli.{name}")

    torch.set_num_threads(1)
    random.seed(0)
    options = ["--data", pictures, "--max-steps", "100000", "--batch-size", "4", "-q"]
    last_step = -1
    for life in range(50):
        child = os.fork()
        if child == 0:
            again = ["--resume", "a"] if Path("runs/a").exists() else ["--name", "a"]
            app(["train", *again, *(options if again[0] == "--name" else ["-q"])])
        # The first step comes after about a second and a half, an epoch a quarter of one later.
        time.sleep(random.uniform(0.05, 3.0))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, life
        if MODEL.exists():
            description, _ = load_model(MODEL)
            assert description.training["steps"] >= last_step
            last_step = description.training["steps"]
    assert last_step > 0
    print("50 kills survived")


if __name__ == "__main__":
    main(sys.argv[1])
