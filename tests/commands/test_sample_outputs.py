"""``diffcli sample``: every output form, and that other programs open it."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops
from torchvision.datasets import ImageFolder

from diffcli.commands.drawing import Drawing, choose_layout
from diffcli.commands.options import Target, parse_target
from diffcli.core.generate import generate
from diffcli.core.parameters import SamplingSettings
from diffcli.core.samplers import Step
from diffcli.errors import UsageError
from diffcli.files.checkpoint import save_model
from diffcli.files.writing import write_new
from diffcli.sampling import outputs
from diffcli.sampling.provenance import read_provenance
from diffcli.sampling.request import SampleRequest, Sheet
from tests import tiny
from tests.commands.conftest import Draw, cells, furthest
from tests.conftest import Command


@pytest.mark.parametrize(
    ("output", "sheet", "most"),
    [("a.png", None, 1201), ("a.gif", None, 1000), ("a.png", Sheet("eta", (0, 0.5, 1)), 400)],
)
def test_one_picture_is_not_too_large_to_be_read_again(
    output: str, sheet: Sheet | None, most: int
) -> None:
    def layout(count: int) -> str:
        request = SampleRequest((0,), count, 0, SamplingSettings())
        return choose_layout(parse_target(output, None), request, False, sheet, (3, 256, 256))

    # With gaps of two pixels, together 80 million pixels.
    assert layout(most)
    with pytest.raises(UsageError, match=f"takes up to {most:,}"):
        layout(most + 1)


class TestOutputs:
    def test_a_grid_has_a_row_per_label(self, draw: Draw) -> None:
        draw("-l", "2,0", "-n", "3", "--seed", "1", "-o", "grid.png")
        grid = cells("grid.png", columns=3, rows=2)
        draw("-l", "0", "-n", "1", "--seed", "5", "-o", "one.png")
        with Image.open("one.png") as one:
            assert furthest(grid[4], one.tobytes()) <= 1

    def test_a_file_per_picture_by_a_pattern(self, draw: Draw) -> None:
        out, _ = draw(
            "-l", "2,0", "-n", "2", "--seed", "5", "-o", "p/{label}-{seed:03}-{index}.png"
        )
        names = ("zwei ü-005-0.png", "zwei ü-006-1.png", "zero-007-2.png", "zero-008-3.png")
        assert out.splitlines() == [str(Path("p", name)) for name in names]
        for path in out.splitlines():
            with Image.open(path) as picture:
                assert (picture.mode, picture.size) == ("L", (8, 8))

    def test_a_folder_per_class_is_what_torchvision_reads(self, draw: Draw) -> None:
        out, _ = draw("-l", "all", "-n", "2", "--seed", "5", "--out-dir", "out")
        assert out == "out\n"
        found = ImageFolder("out")
        assert found.classes == ["o_ne", "zero", "zwei ü"]
        assert len(found) == 6

    def test_a_full_disk_leaves_the_pictures_before_and_says_how_many(
        self, diffcli: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def until_full(path: Path, content: bytes, durable: bool) -> Path:
            if len(list(tmp_path.glob("out/*/*.png"))) == 5:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            return write_new(path, content, durable)

        monkeypatch.setattr(outputs, "write_new", until_full)
        monkeypatch.chdir(tmp_path)
        result = diffcli("sample", "-m", model, "-l", "all", "-n", "3", "--out-dir", "out")
        assert (result.code, result.out) == (1, "")
        assert result.err.splitlines()[-2] == "5 of 9 pictures are finished"
        assert result.err.splitlines()[-1].startswith("diffcli: No space left on device: ")

    @pytest.mark.parametrize(
        "layout", [["--strip"], ["--sheet", "guidance=1,2"], ["-o", "a.gif"]], ids=" ".join
    )
    def test_an_interruption_leaves_nothing_of_one_picture_of_many(
        self,
        diffcli: Command,
        model: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        layout: list[str],
    ) -> None:
        def generate_until_interrupted(*arguments: Any) -> Iterator[Step]:
            for step in generate(*arguments):
                signal.raise_signal(signal.SIGINT)
                yield step

        monkeypatch.setattr("diffcli.sampling.model.generate", generate_until_interrupted)
        monkeypatch.chdir(tmp_path)
        result = diffcli("sample", "-m", model, "-n", "2", *layout)
        assert (result.code, result.out) == (130, "")
        assert result.err.splitlines()[-1] == "interrupted: nothing is written"
        assert "are finished" not in result.err
        assert not list(tmp_path.iterdir())

    def test_the_paths_of_many_files_are_kept_for_json_alone(
        self, draw: Draw, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept: list[list[Path]] = []
        write = Drawing.write

        def record(drawing: Drawing, target: Target, show: bool | None) -> list[Path]:
            kept.append(write(drawing, target, show))
            return kept[-1]

        monkeypatch.setattr(Drawing, "write", record)
        draw("-l", "0", "-n", "2", "--seed", "5", "--out-dir", "a")
        draw("-l", "0", "-n", "2", "--seed", "5", "-o", "{seed}.png")
        out, _ = draw("-l", "0", "-n", "2", "--seed", "5", "--out-dir", "b", "--json")
        expected = [Path("b", "zero", "5.png"), Path("b", "zero", "6.png")]
        assert kept == [[], [], expected]
        assert json.loads(out)["files"] == [*map(str, expected)]

    def test_arrays(self, draw: Draw) -> None:
        draw("-l", "2,0", "-n", "2", "--seed", "5", "-o", "a.npz")
        draw("-l", "2,0", "-n", "2", "--seed", "5", "-o", "a.png")
        with np.load("a.npz") as arrays:
            assert [image.tobytes() for image in arrays["images"]] == cells("a.png", 2, 2)
            assert arrays["labels"].tolist() == [2, 2, 0, 0]
            assert arrays["seeds"].tolist() == [5, 6, 7, 8]

    @pytest.mark.parametrize(
        ("name", "kind"), [("a.gif", "GIF"), ("a.webp", "WEBP"), ("a.apng", "PNG")]
    )
    def test_animations_end_in_the_picture(self, draw: Draw, name: str, kind: str) -> None:
        draw("-l", "2,0", "-n", "2", "--seed", "5", "-o", name)
        draw("-l", "2,0", "-n", "2", "--seed", "5", "-o", "still.png")
        with Image.open(name) as movie, Image.open("still.png") as still:
            assert (movie.format, getattr(movie, "n_frames", 1)) == (kind, 4)
            movie.seek(3)
            difference = ImageChops.difference(movie.convert("L"), still.convert("L"))
            assert np.asarray(difference).max() <= 1
        assert read_provenance(Path(name)).request == read_provenance(Path("still.png")).request

    @pytest.mark.process
    def test_stdout_gets_the_bytes_of_the_file(self, model: Path, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "diffcli", "sample", "--model", str(model), "-n", "2"]
        piped = subprocess.run(
            [*command, "--seed", "3", "-o", "-"], capture_output=True, check=True, timeout=300
        )
        subprocess.run(
            [*command, "--seed", "3", "-o", tmp_path / "a.png"],
            capture_output=True, check=True, timeout=300,
        )  # fmt: skip
        assert piped.stdout == (tmp_path / "a.png").read_bytes()
        with Image.open(io.BytesIO(piped.stdout)) as picture:
            picture.load()

    def test_a_strip_ends_in_the_pictures(self, draw: Draw) -> None:
        draw("-l", "2,0", "--strip", "--seed", "5", "-o", "strip.png")
        strip = cells("strip.png", columns=4, rows=4)
        draw("-l", "2,0", "-n", "1", "--seed", "5", "-o", "grid.png")
        assert [strip[3], strip[11]] == cells("grid.png", 2, 1)
        assert strip[7] == strip[3]  # at the end, the estimate is the picture

    def test_a_sheet_has_the_same_noise_down_each_column(self, draw: Draw) -> None:
        draw("-l", "2,0", "--sheet", "guidance=1,4", "--seed", "5", "-o", "sheet.png")
        for row, guidance in enumerate(("1", "4")):
            draw(
                "-l",
                "2,0",
                "-n",
                "1",
                "--guidance",
                guidance,
                "--seed",
                "5",
                "-o",
                "g.png",
                "--force",
            )
            with Image.open("sheet.png") as sheet:
                margin = sheet.width - 22
                for column, expected in enumerate(cells("g.png", 2, 1)):
                    left, top = margin + 2 + column * 10, 2 + row * 10
                    cell = sheet.crop((left, top, left + 8, top + 8))
                    assert furthest(cell.tobytes(), expected) <= 1

    def test_a_picture_to_start_from(self, draw: Draw) -> None:
        Image.linear_gradient("L").resize((30, 20)).save("init.jpg")
        draw("--init", "init.jpg", "--strength", "0.05", "-l", "0", "-n", "1", "-o", "near.png")
        draw("--init", "init.jpg", "--strength", "1", "-l", "0", "-n", "1", "-o", "far.png")
        with Image.open("init.jpg") as init:
            target = np.asarray(init.crop((5, 0, 25, 20)).resize((8, 8)), float)

        def distance(name: str) -> float:
            with Image.open(name) as picture:
                return float(np.abs(np.asarray(picture, float) - target).mean())

        assert distance("near.png") < 25 < distance("far.png")
        assert read_provenance(Path("near.png")).request.strength == 0.05
        draw("--from", "near.png", "--init", "init.jpg", "-o", "again.png")
        assert Path("near.png").read_bytes() == Path("again.png").read_bytes()

    def test_a_part_of_a_picture_drawn_anew(self, draw: Draw) -> None:
        picture = Image.linear_gradient("L").resize((8, 8))
        picture.save("init.png")
        mask = Image.new("L", (8, 8))
        mask.paste("white", (0, 0, 8, 3))
        mask.save("mask.png")
        inpaint = ("--init", "init.png", "--mask", "mask.png", "-l", "0", "-n", "2", "--seed", "3")
        draw(*inpaint, "-o", "{seed}.png")
        before = np.asarray(picture)
        drawn = []
        for name in ("3.png", "4.png"):
            with Image.open(name) as after:
                drawn.append(np.asarray(after))
            assert np.array_equal(drawn[-1][3:], before[3:])
        assert not np.array_equal(drawn[0][:3], drawn[1][:3])
        request = read_provenance(Path("3.png")).request
        assert (request.strength, request.masked) == (1.0, True)
        draw("--from", "3.png", "--init", "init.png", "--mask", "mask.png", "-o", "again.png")
        assert Path("3.png").read_bytes() == Path("again.png").read_bytes()
        draw(*inpaint, "-o", "both.gif")
        draw(*inpaint, "--strip", "-o", "strip.png")

    def test_existing_files_stay_unless_forced(self, draw: Draw) -> None:
        draw("-n", "1", "--seed", "1", "-o", "a.png")
        before = Path("a.png").read_bytes()
        out, err = draw("-n", "1", "--seed", "2", "-o", "a.png")
        assert (out, Path("a.png").read_bytes()) == ("a-1.png\n", before)
        assert "a.png exists; writing a-1.png" in err
        out, err = draw("-n", "1", "--seed", "3", "-o", "a.png", "--quiet")
        assert (out, err) == ("a-2.png\n", "")
        Path("a-2.png").unlink()
        out, _ = draw("-n", "1", "--seed", "2", "-o", "a.png", "--force")
        assert (out, Path("a.png").read_bytes()) == ("a.png\n", Path("a-1.png").read_bytes())

    def test_the_spacing_of_the_model_is_in_the_metadata(self, draw: Draw) -> None:
        settings = SamplingSettings("dpmpp", 4, spacing=2.5)
        save_model(
            Path("other.safetensors"),
            tiny.description(sampling=settings),
            tiny.network().state_dict(),
        )
        draw("-l", "0", "-n", "1", "--seed", "1", "-o", "even.png")
        spaced = ("--model", "other.safetensors", "-l", "0", "-n", "1", "--seed", "1")
        draw(*spaced, "-o", "spaced.png")
        assert read_provenance(Path("spaced.png")).request.settings == settings
        with Image.open("spaced.png") as a, Image.open("even.png") as b:
            assert a.info["parameters"].endswith(", Spacing: 2.5")
            assert "Spacing" not in b.info["parameters"]
            assert furthest(a.tobytes(), b.tobytes()) > 1

    def test_eta_is_drawn_with_recorded_and_drawn_again(self, draw: Draw) -> None:
        start = ("-l", "1", "-n", "1", "--seed", "3", "--steps", "6")
        for name, options in {
            "all": ("--sampler", "dpmpp-sde"),
            "half": ("--sampler", "dpmpp-sde", "--eta", "0.5"),
            "none": ("--sampler", "dpmpp-sde", "--eta", "0"),
            "plain": ("--sampler", "dpmpp"),
        }.items():
            draw(*start, *options, "-o", f"{name}.png")
        pixels = {}
        for name in ("all", "half", "none", "plain"):
            with Image.open(f"{name}.png") as picture:
                pixels[name] = picture.tobytes()
                assert ("Eta: 0" in picture.info["parameters"]) == (name in ("half", "none"))
        assert pixels["none"] == pixels["plain"]
        assert len(set(pixels.values())) == 3
        draw("--from", "half.png", "-o", "again.png")
        assert Path("again.png").read_bytes() == Path("half.png").read_bytes()

    def test_a_sheet_of_guidance_is_guided_at_all_timesteps_or_in_the_interval(
        self, draw: Draw
    ) -> None:
        made = tiny.description(sampling=SamplingSettings("ddim", 4, 1.5, (5, 9)))
        save_model(Path("guided.safetensors"), made, tiny.network().state_dict())
        sheet = ("-l", "2", "--sheet", "guidance=1,3", "--seed", "5", "-m", "guided.safetensors")
        draw(*sheet, "-o", "all.png")
        assert read_provenance(Path("all.png")).request.settings.guidance_interval is None
        draw(*sheet, "--guidance-interval", "2-8", "-o", "some.png")
        assert read_provenance(Path("some.png")).request.settings.guidance_interval == (2, 8)
        assert Path("all.png").read_bytes() != Path("some.png").read_bytes()

    def test_a_sheet_of_etas_has_the_pictures_of_each(self, draw: Draw) -> None:
        start = ("-l", "1", "-n", "1", "--seed", "3", "--steps", "6", "--sampler", "dpmpp-sde")
        draw(*start, "--sheet", "eta=0,1", "-o", "sheet.png")
        with Image.open("sheet.png") as sheet:
            rows = sheet.convert("L")
        for value in ("0", "1"):
            draw(*start, "--eta", value, "-o", f"{value}.png")
            with Image.open(f"{value}.png") as picture:
                found = any(
                    rows.crop((x, y, x + 8, y + 8)).tobytes() == picture.tobytes()
                    for x in range(rows.width - 7)
                    for y in range(rows.height - 7)
                )
            assert found

    def test_other_viewers_find_the_parameters(self, draw: Draw) -> None:
        draw("-l", "0,2", "-n", "2", "--seed", "9", "--guidance", "1.5", "-o", "a.png")
        with Image.open("a.png") as picture:
            text = picture.info["parameters"]
        first, second = text.split("\n")
        assert first == "label zero, zwei ü"
        assert "Steps: 4, Sampler: DPM++ 2M, CFG scale: 1.5, Seed: 9, Model hash: " in second
