"""``diffcli sample``: the same pictures again, errors in one line, and the process as a whole."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diffcli.files.checkpoint import save_model
from diffcli.sampling.provenance import read_provenance
from tests import tiny
from tests.commands.conftest import Draw, cells, furthest
from tests.conftest import Command

Change = Callable[[dict[str, Any]], object]
"""Spoils what a picture says of itself."""


class TestRepeatable:
    def test_a_seed_gives_the_same_bytes_on_every_run(self, draw: Draw) -> None:
        draw("-n", "2", "--seed", "42", "-o", "a.png")
        draw("-n", "2", "--seed", "42", "-o", "b.png")
        draw("-n", "2", "--seed", "43", "-o", "c.png")
        assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
        assert Path("a.png").read_bytes() != Path("c.png").read_bytes()

    @pytest.mark.process
    def test_a_seed_gives_the_same_bytes_in_another_process(
        self, draw: Draw, diffcli_process: Command, model: Path, tmp_path: Path
    ) -> None:
        arguments = ["sample", "--model", model, "-n", "2", "--seed", "42", "-o"]
        for name in ("a.png", "b.png"):
            assert diffcli_process(*arguments, name, cwd=tmp_path).out == f"{name}\n"
        assert Path("a.png").read_bytes() == Path("b.png").read_bytes()

    def test_picture_i_of_seed_s_is_that_of_seed_s_plus_i(self, draw: Draw) -> None:
        draw("-l", "1", "-n", "16", "--seed", "42", "-o", "many.png")
        draw("-l", "1", "-n", "1", "--seed", "47", "-o", "one.png")
        with Image.open("one.png") as one:
            assert furthest(cells("many.png", 4, 4)[5], one.tobytes()) <= 1

    def test_a_drawn_seed_is_printed_and_kept(self, draw: Draw) -> None:
        out, err = draw("-n", "1", "-o", "a.png")
        seed = read_provenance(Path("a.png")).request.seed
        assert f"seed: {seed}\n" in err
        draw("-n", "1", "--seed", str(seed), "-o", "b.png")
        assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
        assert out == "a.png\n"

    @pytest.mark.parametrize(
        "arguments",
        [
            ["-l", "2", "-l", "0", "-n", "3"],
            ["-l", "1", "-n", "1"],
            ["-l", "0-1", "--strip"],
            ["--sheet", "steps=1,2,20"],
            ["-l", "0", "-n", "2", "--sheet", "guidance=0,2.5"],
            ["-n", "2", "--sampler", "ddpm", "--guidance", "2", "--guidance-interval", "3-15"],
        ],
    )
    def test_a_picture_is_drawn_again_from_itself(self, draw: Draw, arguments: list[str]) -> None:
        draw(*arguments, "--seed", "7", "-o", "first.png")
        draw("--from", "first.png", "-o", "again.png")
        assert Path("first.png").read_bytes() == Path("again.png").read_bytes()

    def test_options_win_over_the_picture_even_those_that_equal_a_default(self, draw: Draw) -> None:
        draw("-l", "1", "-n", "3", "--seed", "7", "--steps", "9", "--guidance", "3", "-o", "a.png")
        draw("--from", "a.png", "-o", "b.png", "-l", "all", "-n", "8", "--steps", "4",
             "--guidance", "1", "--seed", "0")  # fmt: skip
        draw("--seed", "0", "-o", "plain.png")
        assert Path("b.png").read_bytes() == Path("plain.png").read_bytes()
        draw("--from", "a.png", "-o", "c.png", "-n", "1")
        before, after = (read_provenance(Path(name)).request for name in ("a.png", "c.png"))
        assert after == replace(before, per_label=1)

    def test_one_of_many_files_is_drawn_again_alone(self, draw: Draw) -> None:
        draw("-l", "0,2", "-n", "2", "--seed", "7", "--out-dir", "out")
        draw("--from", "out/zwei ü/10.png", "-o", "again.png")
        first, again = (Image.open(name) for name in ("out/zwei ü/10.png", "again.png"))
        assert furthest(first.tobytes(), again.tobytes()) <= 1
        assert read_provenance(Path("again.png")) == read_provenance(Path("out/zwei ü/10.png"))

    def test_another_model_is_a_warning(self, draw: Draw, diffcli: Command, tmp_path: Path) -> None:
        draw("-n", "1", "-o", "a.png")
        other = tmp_path / "other.safetensors"
        save_model(other, tiny.description(), tiny.network(seed=1).state_dict())
        result = diffcli("sample", "--model", other, "--from", "a.png", "-o", "b.png")
        assert result.code == 0
        assert "a.png was drawn with another model, tiny.safetensors" in result.err
        assert "another model" not in draw("--from", "a.png", "-o", "c.png")[1]
        silent = diffcli("sample", "-m", other, "--from", "a.png", "-o", "d.png", "--quiet")
        assert (silent.code, silent.err) == (0, "")

    def test_without_a_model_the_one_that_drew_it_is_used(
        self, diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        for name, seed in (("a", 0), ("b", 1)):
            folder = tmp_path / "runs" / name
            folder.mkdir(parents=True)
            weights = tiny.network(seed=seed).state_dict()
            save_model(folder / "model.safetensors", tiny.description(), weights)
            os.utime(folder / "model.safetensors", (seed, seed))
        assert diffcli("sample", "-m", "a", "-n", "1", "-o", "a.png").code == 0
        again = diffcli("sample", "--from", "a.png", "-o", "again.png")
        assert str(Path("runs/a")) in again.err
        assert "another model" not in again.err
        assert Path("a.png").read_bytes() == Path("again.png").read_bytes()
        (tmp_path / "runs/a/model.safetensors").unlink()
        assert "another model" in diffcli("sample", "--from", "a.png", "-o", "b.png").err

    @pytest.mark.parametrize("suffix", [".gif", ".webp", ".apng"])
    def test_an_animation_is_drawn_again_as_an_animation(self, draw: Draw, suffix: str) -> None:
        draw("-l", "1", "-n", "2", "--seed", "3", "-o", f"a{suffix}")
        out, _ = draw("--from", f"a{suffix}")
        assert out == f"grid{suffix}\n"
        assert Path(f"a{suffix}").read_bytes() == Path(f"grid{suffix}").read_bytes()

    def test_a_picture_drawn_from_another_one_asks_for_that(
        self, draw: Draw, diffcli: Command, model: Path
    ) -> None:
        Image.new("L", (8, 8), 99).save("init.png")
        draw("-n", "1", "--init", "init.png", "--strength", "0.7", "-o", "a.png", "--seed", "1")
        result = diffcli("sample", "-m", model, "--from", "a.png", "-o", "b.png")
        assert result.is_one_line_error(2, "a.png was drawn from another picture", "--init")
        draw("--from", "a.png", "--init", "init.png", "-o", "b.png")
        assert Path("a.png").read_bytes() == Path("b.png").read_bytes()

    def test_a_picture_of_version_0_1_is_drawn_again(
        self, diffcli: Command, tmp_path: Path
    ) -> None:
        """Model and picture were written by that version, the model with random weights."""
        place = Path(__file__).parents[1] / "sampling"
        old, again = place / "picture_0_1.png", tmp_path / "again.png"
        model = place / "model_0_1.safetensors"
        result = diffcli("sample", "--from", old, "-m", model, "-o", again)
        assert result.code == 0
        assert "another model" not in result.err
        with Image.open(old) as before, Image.open(again) as after:
            assert furthest(before.tobytes(), after.tobytes()) <= 1

    def test_metadata_can_be_left_out(self, draw: Draw, diffcli: Command) -> None:
        draw("-n", "1", "-o", "a.png", "--no-metadata")
        draw("-n", "1", "--out-dir", "d", "--no-metadata")
        for path in ("a.png", next(str(path) for path in Path("d").rglob("*.png"))):
            with Image.open(path) as picture:
                assert not picture.info
            result = diffcli("sample", "--from", path)
            assert result.is_one_line_error(1, "does not say how it was drawn", "--from")


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["-l", "cat"], ["cat", 'zero, o"ne, zwei ü']),
            (["-l", "3"], ["'3'", "zero"]),
            (["-l", "2-1"], ["2-1", "write 1-2"]),
            (["-l", ""], ["''"]),
            (["-n", "0"], ["at least one picture"]),
            (["-n", "99999999999"], ["too many"]),
            (["--seed", "-1"], ["seeds"]),
            (["--seed", str(2**53)], ["seeds"]),
            (["--steps", "21"], ["1 .. 20"]),
            (["--steps", "0"], ["at least 1"]),
            (["--guidance", "nan"], ["guidance"]),
            (["--guidance", "-1"], ["guidance"]),
            (["--guidance-interval", "9"], ["like 50-250"]),
            (["--guidance-interval", "9-3"], ["like 50-250"]),
            (["--guidance", "4", "--guidance-interval", "20-30"], ["must be in 0-19"]),
            (["--strength", "0.5"], ["--init"]),
            (["--mask", "mask.png"], ["--mask needs", "--init"]),
            (["--sheet", "colour=1,2"], ["guidance=0,1,2,4"]),
            (["--sheet", "steps=2,2.5"], ["whole"]),
            (["--sheet", "steps=2,21"], ["1 .. 20"]),
            (["--sheet", "steps=0,4"], ["--sheet", "steps must be at least 1"]),
            (["--sheet", "guidance=1,5000"], ["--sheet", "guidance must be in 0 .. 1000"]),
            (["--sheet", "guidance=1,2", "--guidance", "3"], ["leave --guidance out"]),
            (["--sheet", "steps=1,2", "--steps", "3"], ["leave --steps out"]),
            (["--sheet", "eta=0,1.5"], ["--sheet", "eta must be in 0 .. 1, not 1.5"]),
            (["--sheet", "eta=0,1", "--eta", "0.5"], ["leave --eta out"]),
            (["--sheet", "eta=0,1", "--sampler", "ddim"], ["ddim has no eta", "dpmpp-sde"]),
            (["--eta", "0.5", "--sampler", "ddpm"], ["ddpm has no eta", "dpmpp-sde"]),
            (["--variance", "beta", "--sampler", "ddim"], ["ddim has no variance", "ddpm"]),
            (["--eta", "2", "--sampler", "dpmpp-sde"], ["eta must be in 0 .. 1, not 2"]),
            (["--sheet", "guidance=1", "--strip"], ["choose one"]),
            (["--strip", "-o", "a.npz"], ["one PNG"]),
            (["--strip", "-n", "200"], ["one strip, which takes up to 200", "a smaller --num"]),
            (["--sheet", "steps=1,2", "-n", "400"], ["takes up to 1,000", "--num"]),
            (["--between", "0,2", "-n", "1001", "-o", "a.gif"], ["one animation", "--num"]),
            (["-o", "a.gif", "--preview"], ["--preview shows one PNG"]),
            (["-o", "a.npz", "--preview"], ["--preview shows one PNG"]),
            (["--out-dir", "out", "--preview"], ["--preview shows one PNG"]),
            (["-n", "4000"], ["one grid, which takes up to 10,000", "--out-dir"]),
            (["-o", "a.jpg"], [".png", ".npz"]),
            (["--json", "-o", "-"], ["stdout"]),
            (["--variance", "gamma"], ["beta-tilde"]),
            (["-o", "{label}.png"], ["the name of several pictures", "{index}"]),
            (["-l", "0,0", "-n", "1", "-o", "{label}.png"], ["the name of several pictures"]),
            (["-o", "{{label}}.png"], ["the name of several pictures"]),
            (["-o", "{name}{seed}.png"], ["{name}"]),
            (["-o", "{seed}.gif"], ["one file per picture"]),
            (["-o", "a.png", "--out-dir", "d"], ["choose one"]),
            (["--device", "tpu"], ["'tpu'", "--device"]),
            (["--model", "nothing"], ["there is no model"]),
        ],
    )
    def test_wrong_usage_is_one_line_and_writes_nothing(
        self, draw: Draw, diffcli: Command, model: Path, arguments: list[str], words: list[str]
    ) -> None:
        result = diffcli("sample", "--model", model, *arguments)
        assert result.is_one_line_error(2, *words), result.err
        assert not list(Path().iterdir())

    def test_a_strength_out_of_range(self, draw: Draw, diffcli: Command, model: Path) -> None:
        Image.new("L", (8, 8)).save("init.png")
        for strength in ("0", "1.1", "nan"):
            result = diffcli(
                "sample", "--model", model, "--init", "init.png", "--strength", strength
            )
            assert result.is_one_line_error(2, "strength")

    def test_masks_that_do_not_fit(self, draw: Draw, diffcli: Command, model: Path) -> None:
        Image.new("L", (8, 8), 50).save("init.png")
        Image.new("L", (8, 9), "white").save("large.png")
        Image.new("L", (8, 8), "black").save("black.png")
        Image.new("L", (8, 8), "white").save("white.png")
        common = ("sample", "--model", model, "-n", "1", "-o", "out.png")
        for mask, words in (
            ("large.png", ("8x9 pixels", "8x8")),
            ("black.png", ("no white",)),
        ):
            result = diffcli(*common, "--init", "init.png", "--mask", mask)
            assert result.is_one_line_error(2, mask, *words)
        assert diffcli(*common, "--init", "init.png", "--mask", "white.png").code == 0
        result = diffcli(*common, "--from", "out.png", "--init", "init.png")
        assert result.is_one_line_error(2, "drawn with a mask", "--mask")

    def test_pictures_that_cannot_be_read(self, draw: Draw, diffcli: Command, model: Path) -> None:
        Path("text.png").write_text("hello")
        for option in ("--from", "--init"):
            for name, code in (("text.png", 1), ("nowhere.png", 2)):
                result = diffcli("sample", "--model", model, option, name)
                assert result.is_one_line_error(code, name, "another")

    def test_names_in_a_picture_do_not_reach_the_terminal(
        self, draw: Draw, diffcli: Command, model: Path
    ) -> None:
        from PIL.PngImagePlugin import PngInfo

        draw("-n", "1", "-o", "a.png")
        with Image.open("a.png") as picture:
            document = json.loads(picture.info["diffcli"])
        document["model"].update(file="\x1b]0;x\x07", sha256="\x1b[2J")
        info = PngInfo()
        info.add_text("diffcli", json.dumps(document))
        Image.new("L", (8, 8)).save("b.png", pnginfo=info)
        result = diffcli("sample", "--model", model, "--from", "b.png", "-o", "c.png")
        assert result.code == 0
        warning = "was drawn with another model, \\x1b]0;x\\x07 (\\x1b[2J); this one is"
        assert warning in result.err
        assert "\x1b" not in result.err

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda d: d["request"].update(seed=-1), "seeds"),
            (lambda d: d["request"].update(labels=[]), "label"),
            (lambda d: d["request"].update(labels=["0"]), "labels"),
            (lambda d: d["request"].update(per_label=10**12), "too many"),
            (lambda d: d["request"]["settings"].update(guidance_scale=10**400), "guidance_scale"),
            (lambda d: d["request"]["settings"].update(sampler="euler"), "sampler"),
            (lambda d: d.update(layout="poster"), "layout"),
            (lambda d: d.update(schema_version=2), "schema version is 2"),
            (lambda d: d.pop("model"), "model is missing"),
            (lambda d: d.update(more=1), "unknown field"),
        ],
    )
    def test_metadata_is_checked(
        self, draw: Draw, diffcli: Command, model: Path, change: Change, why: str
    ) -> None:
        from PIL.PngImagePlugin import PngInfo

        draw("-n", "1", "-o", "a.png")
        with Image.open("a.png") as picture:
            document = json.loads(picture.info["diffcli"])
        change(document)
        info = PngInfo()
        info.add_text("diffcli", json.dumps(document))
        Image.new("L", (8, 8)).save("b.png", pnginfo=info)
        result = diffcli("sample", "--model", model, "--from", "b.png", "-o", "c.png")
        assert result.is_one_line_error(1, "b.png", why), result.err

    def test_labels_that_the_model_does_not_have(
        self, draw: Draw, diffcli: Command, tmp_path: Path
    ) -> None:
        draw("-l", "2", "-n", "1", "-o", "a.png")
        small = replace(
            tiny.description(), architecture=tiny.config(classes=2), class_names=("a", "b")
        )
        other = tmp_path / "two.safetensors"
        save_model(other, small, tiny.network(tiny.config(classes=2)).state_dict())
        result = diffcli("sample", "--model", other, "--from", "a.png", "-o", "b.png")
        assert result.code == 2
        assert "no class of the model, which has a, b" in result.err.splitlines()[-1]


def test_all_classes_are_drawn_also_if_one_is_called_all(diffcli: Command, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    description = replace(tiny.description(), class_names=("a", "all", "b"))
    save_model(path, description, tiny.network().state_dict())
    options = ("--model", path, "-n", 1, "--seed", 0, "--json", "--quiet")
    drawn = json.loads(diffcli("sample", *options, "-o", tmp_path / "odd.png").out)
    assert drawn["request"]["labels"] == [0, 1, 2]
