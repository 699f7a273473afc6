"""How much other programs slow down training and drawing, with fitted and with all threads.

    python -m tests.benchmarks.busy_processor

Everything is a whole process: ``diffcli train --max-time 15s`` (its images per second) and
``diffcli sample`` of 40 digits (its seconds), alone, beside one program that never waits, and
beside another training.  With all threads, OMP_NUM_THREADS is the number of cores, as it was for
all before threads were fitted.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import mean, stdev

REPEATS = 3
ALL = {"OMP_NUM_THREADS": str(os.cpu_count())}
THREADS: dict[str, dict[str, str]] = {"fitted": {}, "all": ALL}


def command(folder: str, threads: str, *arguments: str) -> list[str]:
    """The arguments of a process that runs ``diffcli``."""
    settings = [f"{name}={value}" for name, value in THREADS[threads].items()]
    program = [sys.executable, "-m", "diffcli", *arguments, "--quiet"]
    return ["env", "-C", folder, "-u", "OMP_NUM_THREADS", *settings, *program]


def train(folder: str, threads: str) -> float:
    """Images per second of training."""
    options = ("train", "--max-time", "15s", "--name", "run", "--force", "--json")
    done = subprocess.run(
        command(folder, threads, *options), check=True, capture_output=True, text=True
    )
    result = json.loads(done.stdout)
    return result["images_seen"] / result["seconds"]


def sample(folder: str, threads: str) -> float:
    """Seconds of drawing 40 digits, as a whole process."""
    options = ("sample", "-m", "mnist", "--label", "0-9", "-n", "4", "-o", "grid.png", "--force")
    start = time.perf_counter()
    subprocess.run(command(folder, threads, *options), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


@contextmanager
def beside(folder: str, other: str, threads: str) -> Iterator[None]:
    """Something else that runs: nothing, a program that never waits, or another training."""
    programs = {
        "alone": [],
        "beside a busy program": [sys.executable, "-c", "while True: pass"],
        "beside a training": command(folder, threads, "train", "--max-time", "1h", "--name", "it"),
    }
    if not programs[other]:
        yield
        return
    running = subprocess.Popen(programs[other], stdout=subprocess.DEVNULL)
    try:
        time.sleep(12)  # until it trains
        yield
    finally:
        running.kill()
        running.wait()


def main() -> None:
    """Measure, and print a table."""
    figures: dict[str, Callable[[str, str], float]] = {
        "train, images/s": train,
        "sample, seconds": sample,
    }
    print("| | threads | " + " | ".join(figures) + " |\n|---|---|---|---|")
    for other in ("alone", "beside a busy program", "beside a training"):
        for threads in THREADS:
            cells = []
            for measure in figures.values():
                values = []
                for _ in range(REPEATS):
                    with tempfile.TemporaryDirectory() as folder, beside(folder, other, threads):
                        values.append(measure(folder, threads))
                cells.append(f"{mean(values):.4g} ± {stdev(values):.2g}")
            print(f"| {other} | {threads} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
