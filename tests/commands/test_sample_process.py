"""``diffcli sample`` as a process: what it loads, signals, terminals."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.commands.conftest import Draw

NEEDS_SIGNALS = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows sends no SIGINT or SIGTERM to a process"
)


@pytest.mark.process
class TestProcess:
    def test_neither_torchvision_nor_a_compiler_is_loaded(
        self, model: Path, tmp_path: Path
    ) -> None:
        code = (
            "import sys\n"
            "from diffcli.__main__ import main\n"
            "try: main()\n"
            "except SystemExit as left: assert not left.code\n"
            "heavy = {'torchvision', 'torch._dynamo', 'sympy', 'rich', 'typer.rich_utils'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, "sample", "--model", model, "-l", "1", "-n", "16",
             "-o", tmp_path / "grid.png"],
            capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "[]"

    def test_help_and_wrong_outputs_do_not_wait_for_torch(self, tmp_path: Path) -> None:
        code = (
            "import sys\n"
            "from diffcli.__main__ import main\n"
            "try: main()\n"
            "except SystemExit: print('torch' in sys.modules)"
        )
        for arguments in (["--help"], ["-o", "a.jpg"], ["-o", "{name}.png"]):
            done = subprocess.run(
                [sys.executable, "-c", code, "sample", *arguments],
                capture_output=True, text=True, check=True, cwd=tmp_path, timeout=300,
            )  # fmt: skip
            assert done.stdout.splitlines()[-1] == "False"

    @NEEDS_SIGNALS
    def test_ctrl_c_leaves_the_finished_pictures_and_says_how_many(
        self, model: Path, tmp_path: Path
    ) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "diffcli", "sample", "--model", str(model), "-n", "200000",
             "--out-dir", "out"],
            cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("out/zero/*.png")) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert out == "out\n"
        finished = sorted(tmp_path.glob("out/zero/*"))
        assert f"interrupted: {len(finished):,} of 600,000 pictures are finished" in err
        assert "Traceback" not in err
        for path in finished[:: max(1, len(finished) // 20)]:
            with Image.open(path) as picture:
                picture.load()

    @NEEDS_SIGNALS
    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_a_signal_leaves_an_npz_of_what_is_finished(
        self, number: signal.Signals, code: int, model: Path, tmp_path: Path
    ) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "diffcli", "sample", "--model", str(model), "-n", "200000",
             "-o", "out.npz"],
            cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stderr is not None
        line = "start"
        while "drawing" not in line:
            line = process.stderr.readline()
            assert line
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, err
        assert out == "out.npz\n"
        count = len(np.load(tmp_path / "out.npz")["images"])
        assert count > 0
        assert f"interrupted: {count:,} of 600,000 pictures are finished" in err

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
    def test_a_terminal_gets_a_preview_and_no_bytes(self, model: Path, tmp_path: Path) -> None:
        import pty

        command = [sys.executable, "-m", "diffcli", "sample", "--model", str(model), "-n", "1"]
        for more, code, words in (
            (["-o", "a.png"], 0, "▀"),
            (["-o", "-"], 2, "stdout is a terminal"),
        ):
            main, terminal = pty.openpty()
            environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
            environment.pop("NO_COLOR", None)
            with subprocess.Popen(
                [*command, *more], stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal,
                cwd=tmp_path, env=environment,
            ) as process:  # fmt: skip
                os.close(terminal)
                shown = b""
                try:
                    while part := os.read(main, 65536):
                        shown += part
                except OSError:
                    pass  # the other side has closed
                os.close(main)
            assert process.returncode == code
            assert words in shown.decode()

    def test_a_preview_can_be_had_where_there_is_no_terminal(self, draw: Draw) -> None:
        def blocks(*arguments: str) -> int:
            err = draw("-n", "1", "--seed", "1", "-o", "a.png", "--force", *arguments)[1]
            return sum(err.count(character) for character in "▀▄█")

        assert blocks("--preview") > 0
        assert blocks() == blocks("--no-preview") == 0
