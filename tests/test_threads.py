"""Fewer threads while other programs use the processor."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import cast

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcli import threads
from diffcli.commands.console import ProgressDisplay
from diffcli.commands.training import _compile
from diffcli.threads import Reading, Threads, count_threads, free_cores, read_processor
from diffcli.training.config import RunConfig
from diffcli.training.trainer import Trainer
from tests.conftest import Command

# Of those that this process may use, as its children do.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
FIT = """
import time
from diffcli.threads import THREADS
THREADS.observe()
import torch
time.sleep(1)
from diffcli.device import open_device
open_device("cpu")
print(torch.get_num_threads())
"""


BUSY = """
print("it runs", flush=True)
while True:
    pass
"""


@contextmanager
def busy_processor() -> Iterator[None]:
    """As many other programs that never wait as there are cores.

    Where cores are idle all the same, the test is skipped.
    """
    script = [sys.executable, "-c", BUSY]
    running = [subprocess.Popen(script, stdout=subprocess.PIPE) for _ in range(CORES)]
    try:
        for process in running:
            assert process.stdout
            assert process.stdout.readline()
        _require_no_idle_core()
        yield
    finally:
        for process in running:
            process.kill()
            process.communicate()


def _require_no_idle_core() -> None:
    """Skip the test if programs are kept from the cores, or the system does not tell.

    Mostly without the code that is tested, which would otherwise decide whether it is.
    """
    if read_processor() is None:
        pytest.skip("the system does not show the clocks of its cores")
    try:
        busy = sum(psutil.cpu_percent(interval=0.5, percpu=True)) / 100
    except (OSError, psutil.Error) as error:
        pytest.skip(f"the system does not tell how busy its cores are: {error}")
    if busy < CORES - 0.2:
        pytest.skip(f"{CORES} programs keep {busy:.1f} cores busy, as with a quota in a container")


def threads_of_a_process(**environment: str) -> int:
    """Of one that is not told how many there are, as most are not."""
    own = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    script = [sys.executable, "-c", FIT]
    done = subprocess.run(script, env=own | environment, capture_output=True, check=True)
    return int(done.stdout)


class TestCounting:
    def test_free_cores_are_the_mean_over_the_time_between(self) -> None:
        # Of four cores, in 2 s: 3 s idle, 2.5 s used by this process, the rest by others.
        before, after = Reading(10.0, 100.0), Reading(12.0, 105.5)
        assert free_cores(before, after) == pytest.approx(2.75)

    @pytest.mark.parametrize(
        ("free", "most", "expected"),
        [(8.0, 8, 8), (7.4, 8, 7), (16.0, 8, 8), (1.6, 2, 2), (1.4, 2, 1), (0.2, 8, 1)],
    )
    def test_there_are_as_many_threads_as_free_cores(
        self, free: float, most: int, expected: int
    ) -> None:
        assert count_threads(free, most) == expected

    @given(
        st.floats(0, 500, allow_nan=False), st.floats(0, 500, allow_nan=False), st.integers(1, 256)
    )
    def test_more_free_cores_never_mean_fewer_threads(
        self, one: float, other: float, most: int
    ) -> None:
        few, many = (count_threads(free, most) for free in sorted((one, other)))
        assert 1 <= few <= many <= most


def used(before: Reading | None, after: Reading | None) -> tuple[float, float]:
    """How many cores were free between two readings, and for how many seconds of a core."""
    assert before
    assert after
    return free_cores(before, after), after.core_seconds - before.core_seconds


class TestReading:
    @pytest.mark.process
    def test_cores_that_others_use_are_not_free(self) -> None:
        with busy_processor():
            before = read_processor()
            time.sleep(1)
            assert used(before, read_processor())[0] < 0.5

    @pytest.mark.process
    def test_what_this_process_uses_is_its_own(self) -> None:
        with busy_processor():
            before, start = read_processor(), time.process_time()
            while (own := time.process_time() - start) < 0.5:
                pass
            # No core is idle; times are counted in ticks of 10 ms.
            assert own - 0.1 < used(before, read_processor())[1] < own + 0.3

    @pytest.mark.parametrize(
        ("allowed", "clocks", "idle"),
        [
            ([0, 1], [1.0, 2.0, 4.0], 3.0),
            ([2], [1.0, 2.0, 4.0], 4.0),
            # Cores 1 and 3 are switched off.
            ([0, 2], [1.0, 2.0], 3.0),
            # A container shows its cores as 0 and 1.
            ([6, 7], [1.0, 2.0], 3.0),
            ([6, 7], [1.0, 2.0, 4.0], None),
            ([0, 1], [0.0, 0.0], None),
        ],
    )
    def test_the_clocks_are_those_of_the_cores_that_may_be_used(
        self,
        allowed: list[int],
        clocks: list[float],
        idle: float | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        process = SimpleNamespace(
            cpu_times=lambda: SimpleNamespace(user=10.0, system=5.0), cpu_affinity=lambda: allowed
        )
        cores = [SimpleNamespace(idle=seconds) for seconds in clocks]
        monkeypatch.setattr(psutil, "Process", lambda: process)
        monkeypatch.setattr(psutil, "cpu_times", lambda percpu: cores)
        reading = read_processor()
        assert (reading and reading.core_seconds) == (idle and idle + 15)

    @pytest.mark.parametrize("error", [PermissionError("/proc/stat"), psutil.AccessDenied()])
    def test_a_system_that_does_not_tell_is_no_error(
        self, error: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(percpu: bool) -> None:
            raise error

        monkeypatch.delenv("OMP_NUM_THREADS")
        monkeypatch.setattr(psutil, "cpu_times", refuse)
        had, fitted = torch.get_num_threads(), Threads()
        fitted.observe()
        fitted.fit()
        assert torch.get_num_threads() == had


class TestFit:
    @pytest.mark.process
    def test_beside_other_programs_a_command_has_one_thread(self) -> None:
        with busy_processor():
            assert threads_of_a_process() == 1

    @pytest.mark.process
    def test_the_environment_decides_if_it_says_something(self) -> None:
        with busy_processor():
            assert threads_of_a_process(OMP_NUM_THREADS=str(min(2, CORES))) == min(2, CORES)

    def test_the_number_follows_the_processor_and_stays_when_told_to(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now, had = Reading(0.0, 0.0), torch.get_num_threads()
        looks: list[float] = []

        def read() -> Reading:
            looks.append(now.seconds)
            return now

        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(threads, "read_processor", read)
        monkeypatch.setattr(threads, "time", SimpleNamespace(monotonic=lambda: now.seconds))
        counts = []
        try:
            torch.set_num_threads(4)
            fitted = Threads()
            fitted.fit()  # not watched yet
            counts.append(torch.get_num_threads())
            fitted.observe()
            for free, seconds in [(1.2, 0.7), (4.0, 1.0), (4.0, 2.5), (2.6, 10.0), (1.0, 10.0)]:
                if free == 1.0:
                    fitted.keep()
                now = Reading(now.seconds + seconds, now.core_seconds + free * seconds)
                fitted.fit()
                counts.append(torch.get_num_threads())
        finally:
            torch.set_num_threads(had)
        # The second time is too short after the first, and after the fifth nothing is looked at.
        assert counts == [4, 1, 1, 4, 3, 3]
        assert looks == pytest.approx([0.0, 0.7, 4.2, 14.2])

    def test_a_command_watches_from_its_start(
        self, diffcli: Command, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[str] = []
        monkeypatch.setattr(Threads, "observe", lambda _self: calls.append("observe"))
        assert diffcli("info", "no-such-file").code == 2
        assert calls == ["observe"]

    def test_a_network_is_compiled_for_a_number_that_stays(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[str] = []
        monkeypatch.setattr(Threads, "keep", lambda _self: calls.append("keep"))
        trainer = SimpleNamespace(compile=lambda: calls.append("compile"))
        _compile(cast("Trainer", trainer), RunConfig(compile=True), quiet=True)
        assert calls == ["keep", "compile"]

    @pytest.mark.parametrize("quiet", [False, True])
    def test_long_work_is_fitted_again_while_it_goes_on(
        self, quiet: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = 0

        def fit(_threads: Threads) -> None:
            nonlocal calls
            calls += 1

        monkeypatch.setattr(Threads, "fit", fit)
        with ProgressDisplay(quiet) as display:
            display.show_stage("drawing", 1, 3)
            display.show(0.5, "training")
        assert calls == 2
