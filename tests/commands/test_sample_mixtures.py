"""``diffcli sample`` with mixtures of labels, between two pictures, and from the noise of one."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffcli.core.parameters import MAX_SEED, SamplingSettings
from diffcli.data.mnist import load_mnist
from diffcli.files.checkpoint import save_model
from diffcli.files.pictures import save_png, to_pillow
from diffcli.sampling.provenance import read_provenance
from tests import tiny
from tests.commands.conftest import Draw, cells, furthest
from tests.conftest import Command


@pytest.fixture
def pictures(draw: Draw) -> list[str]:
    """Two drawn ones, of the labels 0 and 2."""
    draw("-l", "0", "-n", "1", "--seed", "3", "-o", "a.png", "--quiet")
    draw("-l", "2", "-n", "1", "--seed", "4", "-o", "b.png", "--quiet")
    return ["--init", "a.png", "--init", "b.png"]


def pixels(name: str) -> bytes:
    with Image.open(name) as picture:
        return picture.tobytes()


class TestMixtures:
    def test_a_weight_of_1_alone_changes_nothing_and_others_do(self, draw: Draw) -> None:
        draw("-l", "0", "-n", "1", "--seed", "3", "-o", "plain.png")
        draw("-l", "0:1", "-n", "1", "--seed", "3", "-o", "one.png")
        draw("-l", "0:0.5,2:0.5", "-n", "1", "--seed", "3", "-o", "both.png")
        draw("-l", "0,-2", "-n", "1", "--seed", "3", "-o", "away.png")
        assert furthest(pixels("plain.png"), pixels("one.png")) <= 1
        assert furthest(pixels("plain.png"), pixels("both.png")) > 1
        assert furthest(pixels("plain.png"), pixels("away.png")) > 1
        assert furthest(pixels("both.png"), pixels("away.png")) > 1

    def test_a_mixture_is_one_row_and_says_what_it_is(self, draw: Draw) -> None:
        draw("-l", "0:0.5,2:0.5", "-n", "4", "--seed", "3", "-o", "a.png")
        assert len(cells("a.png", 2, 2)) == 4
        with Image.open("a.png") as picture:
            assert picture.info["parameters"].startswith("label zero:0.5, zwei ü:0.5\n")

    def test_it_is_drawn_again_up_to_the_last_seed(self, draw: Draw) -> None:
        draw("-l", "0:0.5,2:0.5", "-n", "3", "--seed", str(MAX_SEED - 2), "-o", "a.png")
        draw("--from", "a.png", "-o", "again.png")
        assert Path("a.png").read_bytes() == Path("again.png").read_bytes()

    def test_files_of_a_mixture_have_all_its_names(self, draw: Draw) -> None:
        out, _ = draw("-l", "0,-2", "-n", "2", "--seed", "3", "-o", "{label} {seed}.png")
        assert out == "zero+zwei ü 3.png\nzero+zwei ü 4.png\n"
        draw("--from", "zero+zwei ü 4.png", "-o", "again.png")
        assert pixels("again.png") == pixels("zero+zwei ü 4.png")

    def test_a_picture_is_watched(self, diffcli: Command, model: Path) -> None:
        result = diffcli("watch", "--model", model, "--label", "0:0.5,2:0.5", "--seed", "3")
        assert result.code == 0
        assert "class: zero:0.5, zwei ü:0.5  seed: 3" in result.err


class TestBetween:
    def test_the_ends_are_the_pictures_of_their_labels_and_seeds(self, draw: Draw) -> None:
        draw("--between", "0,2", "--seed", "5,9", "-o", "row.png")
        row = cells("row.png", 10, 1)
        for index, label, seed in ((0, "0", "5"), (9, "2", "9")):
            draw("-l", label, "-n", "1", "--seed", seed, "-o", f"{seed}.png")
            assert furthest(row[index], pixels(f"{seed}.png")) <= 1
        assert len(set(row)) == 10

    def test_with_one_seed_only_the_label_changes(self, draw: Draw) -> None:
        _, err = draw("--between", "0,2", "-n", "3", "--seed", "5", "-o", "row.png")
        assert "seed: 5\n" in err
        draw("-l", "0:0.5,2:0.5", "-n", "1", "--seed", "5", "-o", "middle.png")
        assert furthest(cells("row.png", 3, 1)[1], pixels("middle.png")) <= 1

    def test_an_animation_goes_there_and_back(self, draw: Draw) -> None:
        draw("--between", "0,2", "-n", "4", "--seed", "5,9", "-o", "way.apng")
        draw("--between", "0,2", "-n", "4", "--seed", "5,9", "-o", "row.png")
        row = cells("row.png", 4, 1)
        with Image.open("way.apng") as way:
            assert getattr(way, "n_frames", 1) == 6
            for frame, index in enumerate([0, 1, 2, 3, 2, 1]):
                way.seek(frame)
                assert way.convert("L").crop((2, 2, 10, 10)).tobytes() == row[index]
        draw("--from", "way.apng", "-o", "again.apng")
        assert Path("way.apng").read_bytes() == Path("again.apng").read_bytes()

    def test_frames_go_to_files_and_each_is_drawn_again(self, draw: Draw) -> None:
        draw("--between", "0,2", "-n", "3", "--seed", "5,9", "-o", "frame{index}.png")
        draw("--from", "frame1.png", "-o", "again.png")
        assert furthest(pixels("frame1.png"), pixels("again.png")) <= 1
        assert read_provenance(Path("frame1.png")) == read_provenance(Path("again.png"))

    def test_one_picture_may_have_any_name(self, draw: Draw) -> None:
        draw("--between", "0,2", "-n", "3", "--seed", "5,9", "-o", "frame{index}.png")
        out, _ = draw("--from", "frame1.png", "-o", "seed {seed}.png")
        assert out == "seed 5.png\n"
        assert furthest(pixels("frame1.png"), pixels("seed 5.png")) <= 1

    def test_a_label_makes_plain_pictures_of_an_interpolation(self, draw: Draw) -> None:
        draw("--between", "0,2", "-n", "3", "--seed", "5,9", "-o", "row.png")
        draw("--from", "row.png", "-l", "0", "-o", "plain.png")
        draw("-l", "0", "-n", "3", "--seed", "5", "-o", "same.png")
        assert pixels("plain.png") == pixels("same.png")


class TestInversion:
    def test_a_digit_comes_back_under_its_label_and_another_one_under_another(
        self, diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        save_png(Path("7.png"), to_pillow(load_mnist("test").images[0]))
        result = diffcli(
            "sample", "-m", "mnist", "--init", "7.png", "--invert", "7", "-l", "7,1", "-n", "1",
            "--steps", "20", "--seed", "1",
        )  # fmt: skip
        assert result.code == 0, result.err
        with Image.open("grid.png") as grid:
            same, other = (
                np.asarray(grid.crop((2 + x, 2, 30 + x, 30))).astype(int) for x in (0, 30)
            )
        digit = load_mnist("test").images[0, 0].numpy().astype(int)
        assert np.square((same - digit) / 127.5).mean() < 4e-3
        assert np.square((other - digit) / 127.5).mean() > 0.05

    @pytest.mark.parametrize(
        "arguments",
        [
            ["--init", "a.png", "--invert", "0", "-l", "all", "-n", "2"],
            ["--between", "0,2", "--init", "a.png", "--init", "b.png", "-n", "4"],
        ],
    )
    def test_it_is_drawn_again_with_the_pictures(
        self, draw: Draw, diffcli: Command, model: Path, pictures: list[str], arguments: list[str]
    ) -> None:
        draw(*arguments, "--seed", "1", "-o", "first.png")
        refused = diffcli("sample", "-m", model, "--from", "first.png")
        assert (refused.code, refused.out) == (2, "")
        sources = "two pictures; name them"
        if "--invert" in arguments:
            sources = "another picture; name that one"
        assert f"first.png was drawn from {sources} with --init" in refused.err
        given = pictures if "--between" in arguments else pictures[:2]
        draw("--from", "first.png", *given, "-o", "again.png")
        assert Path("first.png").read_bytes() == Path("again.png").read_bytes()

    def test_one_of_two_pictures_asks_for_its_label(
        self, draw: Draw, diffcli: Command, model: Path, pictures: list[str]
    ) -> None:
        draw("--between", "0,2", *pictures, "-n", "3", "--seed", "1", "-o", "row.png")
        again = ("sample", "-m", model, "--from", "row.png", "-l", "1", "--init", "a.png")
        refused = diffcli(*again)
        assert refused.is_one_line_error(2, "row.png was drawn between two pictures", "--invert")
        assert diffcli(*again, "--invert", "0").code == 0

    def test_a_distilled_model_has_no_way_back(
        self, diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        made = tiny.description(sampling=SamplingSettings("consistency", 2))
        save_model(Path("few.safetensors"), made, tiny.network().state_dict())
        Image.new("L", (8, 8), 99).save("a.png")
        result = diffcli(
            "sample", "-m", "few.safetensors", "--init", "a.png", "--invert", "0", "-l", "0"
        )
        assert result.code == 2
        assert "is distilled, and no longer draws along one way" in result.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["-l", "0:0.5,2:0.5", "-l", "1"], "draw other labels in a command of their own"),
        (["-l", "0:0.5,2:0.5", "-o", "x.npz"], "have no class, as an .npz and --out-dir need"),
        (["--between", "0,2", "--out-dir", "x"], "have no class, as an .npz and --out-dir need"),
        (
            ["--between", "0,2", "-o", "{seed}.png"],
            "{seed}.png would be the name of several pictures",
        ),
        (["--between", "0,2", "-l", "1"], "--between names both labels; leave --label out"),
        (["--between", "0"], "an interpolation is between two labels, like 3,8"),
        (["--between", "0,1,2"], "an interpolation is between two labels"),
        (["--between", "0,-2"], "an interpolation is between two labels"),
        (["--between", "0,2", "--seed", "1,-3"], "'1,-3' is no seed"),
        (["--between", "0,2", "--seed", "1,4294967296"], "seeds must be in 0 .. 4294967295"),
        (["--seed", "1,2"], "the ends of an interpolation, which needs --between"),
        (["--seed", "x"], "'x' is no seed; write it like 5, or 5,9 with --between"),
        (["--seed", "-1"], "seeds must be in 0 .. 4294967295"),
        (["--invert", "0"], "--invert needs a picture to start from; name it with --init"),
        (["--init", "a.png", "--init", "b.png"], "two --init, all others from one, not 2"),
        (["--init", "a.png", "--between", "0,2"], "two --init, all others from one, not 1"),
        (["--init", "a.png", "--invert", "0-1"], "the noise of a picture is found under one label"),
        (["--init", "a.png", "--invert", "9"], "'9' is no class of the model"),
        (["--init", "a.png", "--invert", "0", "--strength", "0.5"], "--strength does not go with"),
        (["--init", "a.png", "--invert", "0", "--mask", "b.png"], "--mask does not go with"),
        (["--init", "a.png", "--invert", "0", "--sampler", "dpmpp"], "with the sampler ddim"),
        (
            ["--init", "a.png", "--init", "b.png", "--between", "0,2", "--invert", "0"],
            "is found under the labels between which they are drawn; leave --invert out",
        ),
    ],
)
def test_what_does_not_go_together_is_one_line(
    diffcli: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], why: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        Image.new("L", (8, 8), 99).save(name)
    result = diffcli("sample", "-m", model, *arguments)
    assert (result.code, result.out) == (2, "")
    assert why in " ".join(result.err.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
