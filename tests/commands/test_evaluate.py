import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from PIL import Image

from diffcli.data.images import LabelledImages, resized
from diffcli.data.sources import load_data
from diffcli.errors import DiffcliError
from diffcli.evaluation import classifier
from diffcli.evaluation import samples as evaluation_samples
from diffcli.evaluation.provide import train_features
from diffcli.evaluation.storage import save_features
from diffcli.files.arrays import PictureArrays, save_npz
from diffcli.files.checkpoint import save_model
from diffcli.sampling.model import Model
from tests import tiny
from tests.conftest import Command, Result
from tests.evaluation.pictures import NAMES, bars
from tests.training.pictures import write_folder

pytestmark = pytest.mark.long

COUNT = 300


@pytest.fixture(scope="module")
def data() -> LabelledImages:
    return bars(COUNT, seed=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, data: LabelledImages) -> Path:
    return write_folder(tmp_path_factory.mktemp("bars"), data)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    path = tmp_path_factory.mktemp("model") / "bars.safetensors"
    description = replace(tiny.description(), class_names=NAMES, dataset=str(folder))
    save_model(path, description, tiny.network().state_dict())
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _little_training(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.setenv("DIFFCLI_DATA_DIR", str(cache))
    monkeypatch.setattr(classifier, "_IMAGES_SEEN", 1000)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    pictures = bars(150, seed=3)
    save_npz(tmp_path / "samples.npz", pictures.images, pictures.labels, range(70, 220))
    return tmp_path / "samples.npz"


def figures(result: Result) -> dict[str, Any]:
    assert result.code == 0, result.err
    document: dict[str, Any] = json.loads(result.out)
    return document


def test_pictures_of_any_tool_are_judged(diffcli: Command, folder: Path, samples: Path) -> None:
    judged = diffcli("evaluate", "--samples", samples, "--data", folder, "--json")
    assert "only 15 pictures are held out" in judged.err or "only 16" in judged.err
    found = figures(judged)
    run = found["runs"][0]
    assert found["settings"] is None
    assert run["images"] == 150
    assert sum(map(sum, run["confusion"])) == 150
    assert run["agreement"] == sum(run["confusion"][i][i] for i in range(3)) / 150
    assert run["agreement_per_class"].keys() == set(NAMES)
    assert [copy["label"] for copy in run["closest"]] == list(NAMES)
    assert all(copy["seed"] == copy["sample"] + 70 for copy in run["closest"])
    assert found["median"]["frechet_train"] == run["frechet_train"] > 0
    assert run["frechet_train_over_noise"] == run["frechet_train"] / found["sampling_noise"]
    # Of so few test images, the distance is an accident.
    assert found["real"]["images"] < 50
    assert found["real"]["frechet_train_over_shift"] is None
    assert run["classification_accuracy"] is None
    again = figures(diffcli("evaluate", "--samples", samples, "--data", folder, "--json"))
    assert again == found


def test_figures_are_of_sets_as_large_as_the_real_one(
    diffcli: Command, folder: Path, samples: Path
) -> None:
    judged = ("evaluate", "--samples", samples, "--data", folder)
    found = figures(diffcli(*judged, "--json"))
    assert found["real"]["images"] == 16
    assert (found["median"]["images"], found["median"]["parts"]) == (150, 9)
    said = " ".join(diffcli(*judged).out.split())
    assert "coverage are means over 9 x 16 pictures, as many as there are test images" in said


def test_no_more_samples_than_test_images_are_one_set(
    diffcli: Command, folder: Path, tmp_path: Path
) -> None:
    pictures = bars(16, seed=3)
    save_npz(tmp_path / "few.npz", pictures.images, pictures.labels)
    result = diffcli("evaluate", "--samples", tmp_path / "few.npz", "--data", folder)
    assert result.code == 0, result.err
    assert "means over" not in result.out


def test_data_of_many_sizes_takes_that_of_the_samples(
    diffcli: Command, tmp_path: Path, samples: Path
) -> None:
    for number, size in enumerate([(8, 8), (9, 9), (12, 16)]):
        part = bars(60, seed=number)
        names = tuple(f"{name}/{number}" for name in NAMES)
        write_folder(tmp_path / "data", replace(resized(part, size), class_names=names))
    judged = ("evaluate", "--samples", samples, "--data", tmp_path / "data")
    result = diffcli(*judged, "--json")
    assert figures(result)["real"]["images"] == 16
    assert "pictures of another size than the samples, resized to 8x8: 120\n" in result.err


def test_files_that_are_skipped_are_listed(
    diffcli: Command, data: LabelledImages, tmp_path: Path, samples: Path
) -> None:
    folder = write_folder(tmp_path / "data", data.subset(torch.arange(100)))
    (folder / "none" / "torn.png").write_bytes(b"no picture")
    judged = ("evaluate", "--samples", samples, "--data", folder)
    assert "files that cannot be read and are skipped: 1\n" in diffcli(*judged).err
    assert diffcli(*judged, "--quiet").err == ""


def test_classes_without_a_held_out_picture_are_named(
    diffcli: Command, data: LabelledImages, tmp_path: Path, samples: Path
) -> None:
    names = (*NAMES, *(f"rare-{number}" for number in range(6)))
    labels = torch.cat([data.labels[:100], torch.arange(3, 9)])
    folder = write_folder(tmp_path / "data", LabelledImages(data.images[:106], labels, names))
    judged = ("evaluate", "--samples", samples, "--data", folder)
    rare = "rare-0, rare-1, rare-2, rare-3, rare-4, ..."
    assert diffcli(*judged).err.endswith(f"of 6 classes no picture is held out: {rare}\n")
    assert diffcli(*judged, "--quiet").err == ""


def test_copies_of_one_picture_as_data(
    diffcli: Command, data: LabelledImages, tmp_path: Path, samples: Path
) -> None:
    index = torch.arange(100)
    same = LabelledImages(data.images[:1].expand(100, -1, -1, -1), index % 3, NAMES)
    judged = ("evaluate", "--samples", samples, "--data", write_folder(tmp_path / "data", same))
    found = figures(diffcli(*judged, "--json"))
    assert found["median"]["frechet_train"] > 0
    assert found["median"]["frechet_train_over_noise"] is None
    result = diffcli(*judged)
    assert "Frechet distance to test images" in result.out
    assert "over sampling noise" not in result.out
    assert "over that of" not in result.out


@pytest.mark.parametrize("as_json", [True, False])
def test_figures_are_printed_before_the_report_is_drawn(
    diffcli: Command,
    folder: Path,
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    as_json: bool,
) -> None:
    def fail(*_: object) -> None:
        raise DiffcliError("no report")

    monkeypatch.setattr("diffcli.figures.report.draw_report", fail)
    judged = ("evaluate", "--samples", samples, "--data", folder, "-o", tmp_path / "report.png")
    result = diffcli(*judged, *(["--json"] if as_json else []))
    assert result.code == 1
    assert result.err.endswith("diffcli: no report\n")
    assert json.loads(result.out)["runs"] if as_json else "Precision" in result.out


def test_names_of_classes_are_printed_as_texts(
    diffcli: Command, data: LabelledImages, samples: Path, tmp_path: Path
) -> None:
    names = ("\u202e", "[red]", ":cat:")
    folder = write_folder(tmp_path / "data", replace(data, class_names=names))
    # Folders are read in the order of their names.
    judged = ("evaluate", "--samples", samples, "--data", folder)
    found = figures(result := diffcli(*judged, "--json"))
    assert result.out.isascii()
    (run,) = found["runs"]
    shares = {
        name.replace("\u202e", r"\u202e"): s for name, s in run["agreement_per_class"].items()
    }
    assert list(shares) == [":cat:", "[red]", r"\u202e"]
    listed = "  ".join(f"{name} {share:.1%}" for name, share in shares.items())
    assert f"Recognised, by label: {listed}\n" in diffcli(*judged).out


def test_a_file_that_is_written_while_the_report_is_drawn_stays(
    diffcli: Command, folder: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tmp_path / "report.png"

    def draw(*_: object) -> Image.Image:
        report.write_bytes(b"theirs")
        return Image.new("L", (8, 8))

    monkeypatch.setattr("diffcli.figures.report.draw_report", draw)
    result = diffcli("evaluate", "--samples", samples, "--data", folder, "-o", report)
    assert result.err.endswith(f"report: {tmp_path / 'report-1.png'}\n")
    assert report.read_bytes() == b"theirs"


def test_copies_of_training_images_are_warned_of(
    diffcli: Command, folder: Path, samples: Path, tmp_path: Path
) -> None:
    known = load_data(str(folder)).train.subset(torch.arange(150))
    save_npz(tmp_path / "copies.npz", known.images, known.labels)
    judged = ("evaluate", "--data", folder, "--samples")
    warned = diffcli(*judged, tmp_path / "copies.npz")
    assert warned.code == 0
    assert "warning: about 100% of the pictures are closer to a training image" in warned.err
    assert "; compare them with the nearest images (--output)\n" in warned.err
    quiet = diffcli(*judged, tmp_path / "copies.npz", "--quiet")
    assert (quiet.out, quiet.err) == (warned.out, "")
    assert "warning" not in diffcli(*judged, samples).err


def test_a_model_is_judged_on_its_own_data_set(diffcli: Command, model: Path) -> None:
    arguments = (
        "evaluate",
        "--model",
        model,
        "--n",
        70,
        "--seeds",
        3,
        "--steps",
        2,
        "--json",
        "--seed",
        5,
    )
    found = figures(diffcli(*arguments))
    assert found["settings"]["steps"] == 2
    distances = [run["frechet_train"] for run in found["runs"]]
    assert len(set(distances)) == 3
    assert found["median"]["frechet_train"] == sorted(distances)[1]
    assert found["low"]["frechet_train"] == min(distances)
    assert found["high"]["frechet_train"] == max(distances)
    seeds = [copy["seed"] for run in found["runs"] for copy in run["closest"]]
    assert all(5 <= seed < 5 + 3 * 70 for seed in seeds)
    assert figures(diffcli(*arguments)) == found
    table = diffcli(*[argument for argument in arguments if argument != "--json"])
    shares = [
        f"{name} {fmean(run['agreement_per_class'][name] for run in found['runs']):.1%}"
        for name in NAMES
    ]
    assert f"Recognised, by label: {'  '.join(shares)}\n" in table.out


def test_the_table_and_the_report(
    diffcli: Command, folder: Path, samples: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "report.png"
    result = diffcli("evaluate", "--samples", samples, "--data", folder, "-o", picture, "--cas")
    assert result.code == 0, result.err
    for heading in (
        "Frechet distance to training images",
        "Precision",
        "Coverage",
        "trained on samples",
    ):
        assert heading in result.out
    assert str(picture) in result.err
    with Image.open(picture) as report:
        assert report.format == "PNG"
        report.load()
    picture.write_bytes(b"mine")
    again = diffcli("evaluate", "--samples", samples, "--data", folder, "-o", picture)
    assert f"{picture} exists; writing" in again.err
    assert picture.read_bytes() == b"mine"
    assert picture.with_name("report-1.png").exists()


def test_a_feature_network_from_a_file(
    diffcli: Command, data: LabelledImages, folder: Path, samples: Path, tmp_path: Path
) -> None:
    path = tmp_path / "own.safetensors"
    few = data.subset(torch.arange(16))
    made = train_features("main", data, few, torch.device("cpu"), seed=9, epochs=2)
    save_features(path, *made)
    judged = ("evaluate", "--samples", samples, "--data", folder, "--json")
    by_it = figures(diffcli(*judged, "--features", path))
    assert by_it["features"] == str(path)
    assert by_it["median"]["frechet_train"] != figures(diffcli(*judged))["median"]["frechet_train"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--seed", "4294967295"), "exceed 4294967295"),
        (("--seeds", "1000", "--n", "1000000", "--seed", "4000000000"), "exceed"),
        (("--n", "1000001"), "1000000"),
        (("--seeds", "1001"), "1000"),
        (("--n", "0"), "--num"),
    ],
)
def test_seeds_and_numbers_out_of_range(
    diffcli: Command, model: Path, options: tuple[str, ...], words: str
) -> None:
    assert diffcli("evaluate", "--model", model, *options).is_one_line_error(2, words)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--n", "50"), "--num"),
        (("--sampler", "ddim"), "--sampler"),
        (("--steps", "3"), "--steps"),
        (("--guidance", "0"), "--guidance"),
        (("--seeds", "2"), "--seeds"),
        (("--model", "model.safetensors"), "--model"),
    ],
)
def test_pictures_that_exist_are_not_drawn(
    diffcli: Command, samples: Path, options: tuple[str, ...], what: str
) -> None:
    result = diffcli("evaluate", "--samples", samples, *options)
    assert result.is_one_line_error(2, what, "drawn already")


def test_errors_are_one_line_and_come_before_the_training_of_a_network(
    diffcli: Command,
    folder: Path,
    model: Path,
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DIFFCLI_DATA_DIR", str(tmp_path / "empty"))
    few, odd = tmp_path / "few.npz", tmp_path / "odd.npz"
    pictures = bars(150, seed=1)
    save_npz(few, pictures.images[:8], pictures.labels[:8])
    save_npz(odd, pictures.images, pictures.labels + 1)
    judged = ("evaluate", "--data", folder, "--samples")
    assert diffcli(*judged, few).is_one_line_error(2, "not 8", "--samples")
    assert diffcli(*judged, odd).is_one_line_error(2, "labels from 1 to 3")
    assert diffcli(*judged, tmp_path / "none.npz").is_one_line_error(2, "none.npz", "--samples")
    assert diffcli("evaluate", "--samples", samples).is_one_line_error(
        2, "the samples are 8x8 grey, and the data set's images are 28x28 grey", "--data"
    )
    assert diffcli("evaluate", "--model", model, "--n", 7).is_one_line_error(
        2, "not 7", "draw more with --num"
    )
    assert diffcli("evaluate", "--model", model, "--data", "mnist").is_one_line_error(
        2, "the model has the classes"
    )
    own = ("--features", tmp_path / "no.safetensors")
    assert diffcli(*judged, samples, *own).is_one_line_error(
        2, "there is no feature network", "--features"
    )
    assert diffcli("evaluate", "--model", tmp_path / "no").is_one_line_error(2, "no model")
    assert not (tmp_path / "empty").exists()


def test_settings_of_the_command_are_those_of_the_samples(
    diffcli: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, int]] = []
    original = evaluation_samples.draw_samples

    def record(
        drawer: Model, data: LabelledImages, count: int, seed: int, *rest: Any
    ) -> PictureArrays:
        drawn.append((count, seed))
        return original(drawer, data, count, seed, *rest)

    monkeypatch.setattr(evaluation_samples, "draw_samples", record)
    options = ("--sampler", "dpmpp-sde", "--steps", 2, "--guidance", 1.5, "--eta", 0.5)
    sets = ("--n", 60, "--seed", 7, "--seeds", 2)
    found = figures(diffcli("evaluate", "--model", model, "--json", *options, *sets))
    settings = found["settings"]
    assert (settings["sampler"], settings["steps"]) == ("dpmpp-sde", 2)
    assert (settings["guidance_scale"], settings["eta"]) == (1.5, 0.5)
    assert found["seed"] == 7
    assert drawn == [(60, 7), (60, 67)]


def test_settings_do_not_go_with_finished_pictures(diffcli: Command, samples: Path) -> None:
    for option, value in (("--eta", 0.5), ("--steps", 3), ("--guidance", 2)):
        result = diffcli("evaluate", "--samples", samples, option, value)
        assert result.code == 2, (option, result)
