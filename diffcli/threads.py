"""How many threads to compute with: fewer while other programs use the processor.

The threads of a computation wait for each other hundreds of times in a training step.  While
another program has one of the cores, each wait lasts until the scheduler gives that core back,
which takes milliseconds: two threads are then many times slower than one
(tests/benchmarks/busy_processor.py).

Importing this does not import torch: the command line looks at the processor before it does.
"""

import os
import time
from typing import NamedTuple

import psutil

# Shorter looks at the processor are coarse.
_LEAST_SECONDS = 3.0


class Reading(NamedTuple):
    """The state of the clocks of the processor."""

    seconds: float
    core_seconds: float
    """In which cores were idle or worked for this process, added up."""


class Threads:
    """The number of torch's threads, fitted to what other programs leave of the processor."""

    def __init__(self) -> None:
        self._before: Reading | None = None
        self._most: int | None = None

    def observe(self) -> None:
        """Begin to watch the processor, unless OMP_NUM_THREADS says how many threads to use."""
        if "OMP_NUM_THREADS" not in os.environ:
            self._before = read_processor()

    def fit(self) -> None:
        """Use as many threads as cores were free since the last time, but at least one.

        To be called often: it does nothing if the last time was a moment ago, or if the
        processor is not watched or cannot be.
        """
        before = self._before
        if before is None or (self._most and time.monotonic() - before.seconds < _LEAST_SECONDS):
            return

        import torch  # noqa: PLC0415 - takes seconds, and help is shown without it

        now = read_processor()
        if now is None:
            return
        self._most, self._before = self._most or torch.get_num_threads(), now
        threads = count_threads(free_cores(before, now), self._most)
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)

    def keep(self) -> None:
        """Keep the number of threads from now on."""
        self._before = None


THREADS = Threads()
"""Those of this process."""


def free_cores(before: Reading, after: Reading) -> float:
    """How many cores, on average, were idle or worked for this process between two readings."""
    return (after.core_seconds - before.core_seconds) / max(after.seconds - before.seconds, 1e-9)


def count_threads(free: float, most: int) -> int:
    """The number of threads for so many free cores: at least one, and no more than ``most``."""
    return min(max(round(free), 1), most)


def read_processor() -> Reading | None:
    """Read the clocks of the cores that this process may use; None if the system shows none."""
    try:
        process = psutil.Process()
        own, cores = process.cpu_times(), psutil.cpu_times(percpu=True)
        allowed = process.cpu_affinity() if hasattr(process, "cpu_affinity") else []  # macOS: none
    except (OSError, psutil.Error):
        return None
    if len(cores) > len(allowed) > 0:
        cores = [cores[core] for core in allowed if core < len(cores)]
    idle = sum(times.idle + getattr(times, "iowait", 0.0) for times in cores)
    # In some sandboxes, all clocks stand at zero, or none is of a core that is allowed.
    return Reading(time.monotonic(), idle + own.user + own.system) if idle else None
