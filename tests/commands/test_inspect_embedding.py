import csv
import io
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffcli.charts.colours import DIVERGING, MARK
from diffcli.core.embedding import SinusoidalPositionEmbedding
from diffcli.figures.embedding_data import Embedding, LearnedEmbedding, distances
from diffcli.files.checkpoint import load_model, save_model
from tests import tiny
from tests.conftest import Command


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def opened(path: str) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
        return picture


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "tiny.safetensors", tiny.description(), tiny.network().state_dict())
    return tmp_path / "tiny.safetensors"


def test_the_line_of_the_readme(diffcli: Command) -> None:
    result = diffcli("inspect-embedding")
    assert (result.code, result.out) == (0, "embedding.png\n")
    said = " ".join(result.err.split())
    assert "Dimensions 27 to 63 and 91 to 127 (37 of 64 pairs) do not complete a period" in said
    assert "6.3" in result.err
    assert "62,831.9" in result.err
    assert Path("embedding.png").read_bytes().startswith(b"\x89PNG")


def test_the_heat_map_has_the_right_colour_at_every_cell(diffcli: Command) -> None:
    assert diffcli("inspect-embedding", "--dim", 8, "--timesteps", 6).code == 0
    figure = opened("embedding.png")
    palette = DIVERGING.palette()
    table = SinusoidalPositionEmbedding(8)(torch.arange(6)).double()
    levels = ((table + 1) * 127.5).round().int().tolist()
    expected = [[tuple(palette[3 * v : 3 * v + 3]) for v in row] for row in levels]
    # The frame of the first chart: the first column of dark-orange cosines of t = 0.
    left, top, right, bottom = _heat_map_box(figure)
    for t in range(6):
        for d in range(8):
            x = left + (t + 0.5) / 6 * (right - left)
            y = top + (d + 0.5) / 8 * (bottom - top)
            found = figure.getpixel((round(x), round(y)))
            assert isinstance(found, tuple)
            # float32 may fall on the other side of a rounding.
            assert all(abs(a - b) <= 3 for a, b in zip(found, expected[t][d], strict=True))


def _heat_map_box(figure: Image.Image) -> tuple[int, int, int, int]:
    """Inside of the first chart: found by the cosine of t = 0, its lower left quarter."""
    full = DIVERGING(1.0)
    hits = [
        (x, y) for y in range(100, 560) for x in range(60, 120) if figure.getpixel((x, y)) == full
    ]
    left, bottom = min(x for x, _ in hits), max(y for _, y in hits)
    top_of_cosines = min(y for x, y in hits if x == left)
    top = top_of_cosines - (bottom - top_of_cosines + 1)
    row = top_of_cosines + 2
    right = left
    while figure.getpixel((right, row)) != (150, 160, 170):
        right += 1
    return left, top, right - 1, bottom


@pytest.mark.parametrize("dim", [2, 4, 128])
def test_numpy_and_the_module_agree(dim: int) -> None:
    module = SinusoidalPositionEmbedding(dim, 500.0)
    embedding = Embedding(dim, 100, 500.0)
    assert torch.equal(module.frequencies, torch.tensor(embedding.frequencies).float())
    timesteps = [0, 1, 12, 90]
    rows = module(torch.tensor(timesteps))
    assert torch.allclose(torch.tensor(embedding.rows(timesteps)).float(), rows, atol=1e-5)
    cosines = torch.cosine_similarity(rows[:, None], rows[None], dim=2)
    assert torch.allclose(torch.tensor(embedding.similarity(timesteps)).float(), cosines, atol=1e-5)


@pytest.mark.parametrize(
    ("dim", "timesteps", "max_period", "pairs"),
    [(4, 6, 100.0, [0, 1]), (4, 7, 100.0, [1]), (4, 700, 100.0, []), (2, 6, 9.0, [0])],
)
def test_which_dimensions_never_complete_a_turn(
    dim: int, timesteps: int, max_period: float, pairs: list[int]
) -> None:
    embedding = Embedding(dim, timesteps, max_period)
    assert list(embedding.incomplete) == pairs
    wavelengths = [2 * math.pi * max_period ** (i / max(dim // 2 - 1, 1)) for i in range(dim // 2)]
    assert embedding.wavelengths.tolist() == pytest.approx(wavelengths)
    assert [i for i, w in enumerate(wavelengths) if w > timesteps] == pairs
    assert f"({len(pairs)} of {dim // 2} pairs)" in embedding.completeness or not pairs


def test_json(diffcli: Command, tmp_path: Path) -> None:
    result = diffcli("inspect-embedding", "--dim", 8, "--t", "10", "--t", "11,200", "--json")
    assert (result.code, result.err) == (0, "")
    numbers = json.loads(result.out)
    rows = SinusoidalPositionEmbedding(8)(torch.tensor([10, 11, 200]))
    assert numbers["timesteps"] == [10, 11, 200]
    assert torch.allclose(torch.tensor(numbers["embeddings"]), rows, atol=1e-4)
    assert torch.allclose(torch.tensor(numbers["distances"]), torch.cdist(rows, rows), atol=1e-3)
    assert numbers["distances"][0][1] < numbers["distances"][0][2]
    assert numbers["wavelengths"][0] == pytest.approx(2 * math.pi)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["--json", "--csv"])
def test_numbers_do_not_need_a_place_for_the_figure(
    form: str, diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("embedding.png").mkdir()
    assert diffcli("inspect-embedding").is_one_line_error(2, "embedding.png is a folder")
    result = diffcli("inspect-embedding", form)
    assert (result.code, result.err) == (0, "")
    assert result.out


def test_csv(diffcli: Command) -> None:
    result = diffcli("inspect-embedding", "--dim", 4, "--timesteps", 20, "--csv")
    rows = list(csv.reader(io.StringIO(result.out)))
    assert rows[0] == ["t", "sin_0", "sin_1", "cos_0", "cos_1"]
    table = torch.tensor([[float(value) for value in row] for row in rows[1:]])
    assert torch.equal(table[:, 0], torch.arange(20.0))
    module = SinusoidalPositionEmbedding(4)
    assert torch.allclose(table[:, 1:], module(torch.arange(20)), atol=1e-5)


def test_rows_and_distances_of_chosen_timesteps(diffcli: Command) -> None:
    result = diffcli("inspect-embedding", "--t", "10", "--t", "11", "--t", "200")
    between = math.dist(*Embedding(128, 300, 10_000.0).rows([10, 200]).tolist())
    assert f"{between:.2f}" in result.err
    with_rows = opened("embedding.png")
    assert MARK in set(with_rows.get_flattened_data())
    assert diffcli("inspect-embedding", "--force").code == 0
    assert opened("embedding.png").height < with_rows.height


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize("timesteps", [20, 3000])
def test_any_number_of_timesteps(diffcli: Command, count: int, timesteps: int) -> None:
    chosen = ",".join(map(str, range(count)))
    result = diffcli("inspect-embedding", "--timesteps", timesteps, "--t", chosen)
    assert result.code == 0


def test_the_longest_period(diffcli: Command) -> None:
    assert diffcli("inspect-embedding", "--max-period", "1e12").code == 0


@pytest.mark.parametrize("timesteps", [1, 100_000])
@pytest.mark.parametrize("dim", [2, 8192])
def test_the_smallest_and_the_largest(diffcli: Command, dim: int, timesteps: int) -> None:
    assert diffcli("inspect-embedding", "--dim", dim, "--timesteps", timesteps).code == 0


def test_a_trained_network(diffcli: Command, model: Path) -> None:
    result = diffcli("inspect-embedding", "--model", model, "--t", "0,19", "--json")
    numbers = json.loads(result.out)
    description, denoiser = load_model(model)
    network = denoiser.network
    rows = network.time_embedding(torch.tensor([0, 19]))
    assert torch.allclose(torch.tensor(numbers["learned_embeddings"]), rows, atol=1e-6)
    assert numbers["class_names"] == [*description.class_names, "no label"]
    labels = network.label_embedding.weight
    cosines = torch.cosine_similarity(labels[:, None], labels[None], dim=2)
    assert torch.allclose(torch.tensor(numbers["label_similarity"]), cosines, atol=1e-5)
    assert numbers["num_timesteps"] == 20
    assert numbers["dim"] == 32


def test_what_timesteps_have_in_common_is_not_shown() -> None:
    rows = np.array([[5.0, 9.0, 7.0], [5.0, 9.0, 8.0], [5.0, 8.0, 7.5], [5.0, 10.0, 7.5]])
    learned = LearnedEmbedding(rows, ("a", "no label"), np.eye(2), np.eye(2))
    expected = [[0, 0, -0.5], [0, 0, 0.5], [0, -1, 0], [0, 1, 0]]
    assert learned.changes.tolist() == expected
    similar = [[1, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, -1], [0, 0, -1, 1]]
    assert learned.similarity.tolist() == similar


def test_the_mean_effect_of_all_labels_is_subtracted(diffcli: Command, model: Path) -> None:
    numbers = json.loads(diffcli("inspect-embedding", "--model", model, "--json").out)
    cosines = torch.tensor(numbers["effect_similarity"], dtype=torch.float64)
    assert torch.allclose(cosines.diagonal(), torch.ones(4, dtype=torch.float64))
    # Less their mean, the effects of three classes add up to nothing and so lie in a plane.
    assert float(cosines[:3, :3].det()) == pytest.approx(0, abs=1e-5)
    assert float(cosines[1:, 1:].det()) > 1e-3


def test_the_effects_of_labels_do_not_depend_on_the_timesteps_shown(
    diffcli: Command, model: Path
) -> None:
    inspect = ("inspect-embedding", "--model", model, "--json")
    every, few = (json.loads(diffcli(*inspect, *shown).out) for shown in ([], ["-t", "3"]))
    assert every["effect_similarity"] == few["effect_similarity"]
    assert len(few["learned_embeddings"]) == 1


@pytest.mark.parametrize("form", [["--json"], ["--csv"], ["-o", "a.png"]])
@pytest.mark.parametrize("layer", ["time_embedding.3.weight", "label_embedding.weight"])
def test_huge_weights_are_one_line(
    diffcli: Command, form: list[str], layer: str, tmp_path: Path
) -> None:
    weights = tiny.network().state_dict()
    weights[layer].fill_(3e38)
    save_model(tmp_path / "huge.safetensors", tiny.description(), weights)
    result = diffcli("inspect-embedding", "-m", "huge.safetensors", "--quiet", *form)
    assert result.is_one_line_error(1, "the network's output is not finite", "--model")
    assert not Path("a.png").exists()


def test_huge_rows_are_compared_in_double_precision() -> None:
    rows = np.array([[3e38, 0], [3e38, 3e38]], dtype=np.float32)
    learned = LearnedEmbedding(rows, ("a", "no label"), np.eye(2), np.eye(2))
    np.testing.assert_allclose(learned.changes, [[0, -1.5e38], [0, 1.5e38]], rtol=1e-6)
    np.testing.assert_allclose(learned.similarity, [[1, -1], [-1, 1]])


def test_names_of_labels_are_printed_as_texts(diffcli: Command, tmp_path: Path) -> None:
    weights = tiny.network().state_dict()
    weights["label_embedding.weight"][2] = weights["label_embedding.weight"][0]
    odd = replace(tiny.description(), class_names=(":cat:", "b", "a\x1b[2J"))
    save_model(tmp_path / "odd.safetensors", odd, weights)
    result = diffcli("inspect-embedding", "--model", "odd.safetensors")
    said = " ".join(result.err.split())
    assert r"The most similar labels are :cat: and a\x1b[2J: the cosine" in said


def test_distances_of_all_timesteps_take_no_time() -> None:
    rows = Embedding(128, 600, 10_000.0).rows(range(600))
    start = time.process_time()
    found = distances(rows)
    assert time.process_time() - start < 2
    for a, b in ((0, 0), (0, 599), (17, 300), (300, 17)):
        assert found[a, b] == pytest.approx(math.dist(rows[a], rows[b]), abs=1e-12)
    assert found.shape == (600, 600)


def test_labels_with_the_same_embedding_do_the_same(diffcli: Command, tmp_path: Path) -> None:
    weights = tiny.network().state_dict()
    weights["label_embedding.weight"][2] = weights["label_embedding.weight"][0]
    save_model(tmp_path / "twins.safetensors", tiny.description(), weights)
    result = diffcli("inspect-embedding", "--model", "twins.safetensors")
    assert result.code == 0
    said = " ".join(result.err.split())
    assert "The most similar labels are zero and zwei ü" in said
    assert "effects on the blocks is 1.00." in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--dim", "7"], ["even", "7"]),
        (["--dim", "0"], ["--dim"]),
        (["--max-period", "1"], ["max_period", "1"]),
        (["--max-period", "nan"], ["max_period"]),
        (["--max-period", "1e308"], ["max_period must be above 1 and at most 1e+12", "1e+308"]),
        (["--t", "300"], ["0 .. 299"]),
        (["--json", "--csv"], ["--json", "--csv"]),
        (["--json", "-o", "a.png"], ["draw no figure", "--output"]),
        (["--csv", "-o", "a.png"], ["draw no figure", "--output"]),
        (["--model", "none"], ["none"]),
        (["--model", "tiny.safetensors", "--dim", "8"], ["--dim", "--model"]),
    ],
)
def test_wrong_usage(diffcli: Command, model: Path, arguments: list[str], words: list[str]) -> None:
    assert diffcli("inspect-embedding", *arguments).is_one_line_error(2, *words)
    assert [path.name for path in Path().iterdir()] == ["tiny.safetensors"]


@pytest.mark.process
def test_it_draws_without_torch() -> None:
    program = (
        "import sys\n"
        "from diffcli.commands.app import app\n"
        "try: app(['inspect-embedding', '--t', '3,4'])\n"
        "except SystemExit as left: assert left.code == 0\n"
        "assert 'PIL' in sys.modules\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
