"""``diffcli score``: labels and likelihoods of pictures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import diffcli as package
from diffcli.charts.text import write
from diffcli.core.misfit import misfit
from diffcli.core.parameters import SamplingSettings
from diffcli.data.images import LabelledImages, to_model_range
from diffcli.errors import UsageError
from diffcli.files.checkpoint import save_model
from diffcli.files.pictures import to_pillow
from diffcli.sampling import outliers
from diffcli.sampling.model import Model
from tests import tiny
from tests.conftest import Command

Score = Callable[..., dict[str, Any]]


@pytest.fixture
def score(diffcli: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Score:
    """Scoring that succeeds, with the smallest model, as JSON."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> dict[str, Any]:
        result = diffcli("score", "--model", model, "--json", *arguments)
        assert result.code == 0, result.err
        document = json.loads(result.out)
        assert isinstance(document, dict)
        return document

    return run


def picture(path: str, value: int = 40, size: tuple[int, int] = (8, 8)) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").resize(size).point(lambda x: (x + value) % 256).save(path)


def test_drawn_digits_are_recognised_and_noise_is_unlikely(
    diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    drawn = diffcli("sample", "-m", "mnist", "-n", "2", "--seed", "5", "--out-dir", "digits")
    assert drawn.code == 0
    noise = torch.randint(0, 256, (28, 28), generator=torch.Generator().manual_seed(0))
    Image.fromarray(noise.to(torch.uint8).numpy()).save("noise.png")
    result = diffcli("score", "-m", "mnist", "digits", "noise.png", "-o", "score.png", "--json")
    assert result.is_one_line_error(2, "21 pictures", "up to 12")
    result = diffcli("score", "-m", "mnist", "digits", "noise.png", "--json")
    document = json.loads(result.out)
    assert (document["count"], document["with_known_label"]) == (21, 20)
    assert document["label_found"] >= 0.95
    *digits, last = document["pictures"]
    assert max(item["bits_per_dimension"] for item in digits) < 0.5 * last["bits_per_dimension"]
    assert last["known_label"] is None


@pytest.mark.long
def test_letters_are_unusual_and_digits_are_not(
    diffcli: Command, test: LabelledImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outliers, "_MOST_PER_LABEL", 30)
    for index, pixels in enumerate(test.images[:20]):
        to_pillow(pixels).save(f"digit-{index:02}.png")
    for letter in "AEFKMNRTWX":
        picture = Image.new("RGB", (28, 28))
        write(picture, (14, 14), letter, "mm", size=24, colour=(255, 255, 255))
        picture.convert("L").save(f"letter-{letter}.png")
    result = diffcli("score", "-m", "mnist", "--ood", *sorted(Path().glob("*.png")), "--json")
    deviations = [item["unusual"] for item in json.loads(result.out)["pictures"]]
    digits, letters = deviations[:20], deviations[20:]
    pairs = [letter > digit for letter in letters for digit in digits]
    assert sum(pairs) / len(pairs) > 0.9
    assert min(letters) > 1
    assert -1 < sum(digits) / 20 < 1
    assert letters[-2] > 3
    table = diffcli("score", "-m", "mnist", "--ood", "letter-W.png", "digit-00.png").out
    assert "unusual" in table
    assert "Few drawings are above 3; of these pictures: 1 of 2." in " ".join(table.split())


def test_pictures_are_compared_with_drawings_of_the_model(score: Score, model: Path) -> None:
    picture("a.png")
    picture("b.png", 90)
    assert [item["unusual"] for item in score("a.png")["pictures"]] == [None]
    found = score("a.png", "b.png", "--ood")["pictures"]
    drawer = Model.load(model)
    for item in found:
        with Image.open(item["picture"]) as file:
            pixels = torch.from_numpy(np.array(file))[None, None]
        label = torch.tensor([drawer.class_names.index(item["label"])])
        own = drawer.sample(item["label"], n=100, seed=0)
        usual = misfit(drawer.denoiser, to_model_range(own), label.expand(100))
        value = misfit(drawer.denoiser, to_model_range(pixels), label)
        expected = float((value - usual.mean()) / usual.std())
        assert item["unusual"] == pytest.approx(expected, abs=0.02)


def test_the_document(score: Score) -> None:
    picture("a.png")
    document = score("a.png")
    assert document["count"] == 1
    assert document["label_found"] is None
    (item,) = document["pictures"]
    assert item["picture"] == "a.png"
    assert list(item["posterior"]) == ["zero", 'o"ne', "zwei ü"]
    assert sum(item["posterior"].values()) == pytest.approx(1)
    assert item["posterior"][item["label"]] == max(item["posterior"].values())
    assert item["standard_error"] < item["bits_per_dimension"]
    assert score("a.png") == document
    assert score("a.png", "--seed", "1") != document


def test_folders_have_labels_and_pictures_are_fitted(score: Score) -> None:
    picture("set/zero/x.png")
    picture("set/other/y.png", 90, (30, 20))
    document = score("set")
    assert [item["picture"] for item in document["pictures"]] == [
        "set/other/y.png",
        "set/zero/x.png",
    ]
    assert [item["known_label"] for item in document["pictures"]] == [None, "zero"]
    assert document["with_known_label"] == 1
    assert document["label_found"] in (0.0, 1.0)
    picture("x.png")
    # Of whatever else is scored at once, and of whatever it is stored in, a score is the same.
    bits = score("x.png")["pictures"][0]["bits_per_dimension"]
    assert document["pictures"][1]["bits_per_dimension"] == pytest.approx(bits, rel=1e-5)


def test_files_of_a_folder_that_cannot_be_read_are_skipped(
    score: Score, diffcli: Command, model: Path
) -> None:
    picture("set/zero/x.png")
    alone = score("set")
    Path("set/zero/torn.png").write_bytes(b"\x89PNG and then nothing")
    assert score("set") == alone
    said = diffcli("score", "--model", model, "set").err
    assert "files that cannot be read and are skipped: 1" in said
    assert str(Path("set/zero/torn.png")) in said
    assert "torn.png" not in diffcli("score", "--model", model, "set", "--quiet").err
    named = diffcli("score", "--model", model, "set/zero/torn.png")
    assert named.is_one_line_error(1, "torn.png", "use another one")
    Path("set/zero/x.png").unlink()
    assert diffcli("score", "--model", model, "set").is_one_line_error(1, "no picture", "torn.png")


@pytest.mark.parametrize(
    ("mode", "size", "said"),
    [("L", (8, 8), False), ("L", (9, 8), True), ("RGB", (8, 8), True)],
)
def test_pictures_that_are_converted_are_counted(
    mode: str, size: tuple[int, int], said: bool, diffcli: Command, model: Path, tmp_path: Path
) -> None:
    Image.linear_gradient("L").resize((8, 8)).save(tmp_path / "fits.png")
    Image.linear_gradient("L").resize(size).convert(mode).save(tmp_path / "other.png")
    paths = [tmp_path / name for name in ("fits.png", "other.png")]
    message = "1 of 2 pictures had another size or other colours; converted to 8x8 grey"
    assert (message in diffcli("score", "--model", model, *paths).err) is said
    assert message not in diffcli("score", "--model", model, "--quiet", *paths).err


def test_arrays_have_labels(score: Score) -> None:
    images = np.full((3, 8, 8), 7, dtype=np.uint8)
    np.savez("a.npz", images=images, labels=np.array([0, 2, 99]))
    items = score("a.npz")["pictures"]
    assert [item["picture"] for item in items] == ["a.npz[0]", "a.npz[1]", "a.npz[2]"]
    assert [item["known_label"] for item in items] == ["zero", "zwei ü", None]
    assert len({item["bits_per_dimension"] for item in items}) == 1


def test_the_table_and_the_figure(
    diffcli: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture("set/zero/[red]a.png")
    picture("set/zero/b.png", 100)
    result = diffcli("score", "--model", model, "set", "-o", "score.png")
    assert result.code == 0, result.err
    assert "[red]a.png" in result.out
    assert "label found:" in result.out
    assert result.out.endswith("score.png\n")
    with Image.open("score.png") as figure:
        assert figure.width > 600
        # Two blocks of the same width, one below the other.
        assert figure.height > 2 * 4 * 100
    result = diffcli("score", "--model", model, "set", "-o", "score.png", "--force", "--json")
    assert json.loads(result.out)["count"] == 2
    assert result.err.endswith("figure: score.png\n")


def test_names_do_not_reach_the_terminal(
    diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("a\u202e", "b\u202e", "c\u202e")
    odd = replace(tiny.description(), class_names=names)
    save_model(Path("odd.safetensors"), odd, tiny.network().state_dict())
    picture("x\u202e.png")
    out = diffcli("score", "-m", "odd.safetensors", "x\u202e.png").out
    assert "\u202e" not in out
    assert r"x\u202e.png" in out
    assert sum(rf"{name}\u202e" in out for name in "abc") == 2  # the best two labels
    document = diffcli("score", "-m", "odd.safetensors", "x\u202e.png", "--json").out
    assert document.isascii()
    assert list(json.loads(document)["pictures"][0]["posterior"]) == list(names)


def test_a_file_that_is_written_while_the_figure_is_drawn_stays(
    diffcli: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    picture("a.png")

    def draw(*_: object) -> Image.Image:
        Path("score.png").write_bytes(b"theirs")
        return Image.new("L", (8, 8))

    monkeypatch.setattr("diffcli.figures.score_figure.score_figure", draw)
    result = diffcli("score", "--model", model, "a.png", "-o", "score.png")
    assert result.err.endswith(
        "score.png exists; writing score-1.png instead (--force overwrites)\n"
    )
    assert result.out.endswith("score-1.png\n")
    assert Path("score.png").read_bytes() == b"theirs"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nothing.png"], 2, ["nothing.png", "name another one"]),
        (["nothing.npz"], 2, ["there is no npz nothing.npz"]),
        (["text.png"], 1, ["text.png", "it is none of"]),
        (["empty"], 2, ["no pictures in empty"]),
        (["bad.npz"], 1, ["bad.npz", "no npz"]),
        (["a.png", "-o", "score.jpg"], 2, ["score.jpg", ".png"]),
        (["a.png", "-m", "nothing"], 2, ["there is no model"]),
    ],
)
def test_errors(
    diffcli: Command,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    picture("a.png")
    Path("text.png").write_text("hello")
    Path("bad.npz").write_text("hello")
    Path("empty").mkdir()
    result = diffcli("score", "--model", model, *arguments)
    assert result.is_one_line_error(code, *words), result.err


def test_a_distilled_model_gives_no_likelihood(diffcli: Command, tmp_path: Path) -> None:
    path, shown = tmp_path / "student.safetensors", tmp_path / "a.png"
    student = tiny.description(sampling=SamplingSettings("consistency", 2))
    save_model(path, student, tiny.network().state_dict())
    picture(str(shown))
    result = diffcli("score", "--model", path, shown)
    assert result.is_one_line_error(2, "student.safetensors is distilled", "--model")


def test_from_python(model: Path) -> None:
    loaded = package.load(model)
    pixels = loaded.sample("all", n=1, seed=1)
    calls = []
    found = loaded.score(pixels, on_progress=lambda *numbers: calls.append(numbers))
    assert calls == [(3, 3)]
    assert found.posterior.shape == (3, 3)
    with pytest.raises(UsageError, match=r"\(N, 1, 8, 8\)"):
        Model.load(model).score(pixels[:, :, :4])
