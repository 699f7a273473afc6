import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffcli.charts.colours import FRAME, MARK
from diffcli.core.noise import ImageNoise
from diffcli.core.parameters import ScheduleConfig, ScheduleName
from diffcli.core.schedule import NoiseSchedule
from diffcli.data.images import to_model_range, to_pixels
from diffcli.figures.noise_data import Noising
from diffcli.figures.noise_figure import noise_figure
from diffcli.files.checkpoint import load_model, save_model
from diffcli.files.pictures import from_pillow, to_pillow
from tests import tiny
from tests.conftest import Command
from tests.figures.places import place_of

pytestmark = pytest.mark.long


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """200 pixels wide, so that it is shown as it is; colours, and not square."""
    gradient = Image.linear_gradient("L").resize((200, 120))
    flipped = gradient.transpose(Image.Transpose.FLIP_LEFT_RIGHT).rotate(90).resize((200, 120))
    made = Image.merge("RGB", (gradient, flipped, Image.new("L", (200, 120), 60)))
    made.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def opened(path: str | Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
        return picture


def noised(path: Path, t: int, seed: int, name: ScheduleName = "linear") -> Image.Image:
    """The panel that should be in the figure, by the formula alone."""
    x0 = to_model_range(from_pillow(opened(path)))
    epsilon = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    alpha_bar = NoiseSchedule.from_config(ScheduleConfig(name, 300)).alphas_cumprod[t]
    return to_pillow(to_pixels(alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * epsilon))


def test_the_line_of_the_readme(diffcli: Command, photo: Path) -> None:
    result = diffcli("noise-demo", photo, "--t", "150")
    assert (result.code, result.out) == (0, "noise.png\n")
    assert Path("noise.png").read_bytes().startswith(b"\x89PNG")
    schedule = NoiseSchedule.from_config(ScheduleConfig())
    signal, noise = schedule.alpha_sigma(150)
    for number in (f"{signal**2:.4g}", f"{signal:.4f}", f"{noise:.4f}"):
        assert number in result.err
    assert f"{(signal / noise) ** 2:.3g}" in result.err


def test_the_panels_are_the_formula_and_stand_in_order(diffcli: Command, photo: Path) -> None:
    assert diffcli("noise-demo", photo, "--t", "150,0", "--t", "299", "--seed", "7").code == 0
    figure = opened("noise.png")
    x0 = opened(photo)
    epsilon = to_pillow(to_pixels(torch.randn(3, 120, 200, generator=_generator(7))))
    panels = [x0, epsilon, *(noised(photo, t, 7) for t in (150, 0, 299))]
    places = [place_of(panel, figure) for panel in panels]
    lefts = [left for left, _ in places]
    assert lefts == sorted(lefts)
    assert len({top for _, top in places}) == 1


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_mean_and_variance_of_the_noisy_panel(diffcli: Command, tmp_path: Path) -> None:
    Image.new("L", (200, 200), 128 + 32).save(tmp_path / "flat.png")
    assert diffcli("noise-demo", "flat.png", "--t", "10").code == 0
    place = place_of(noised(tmp_path / "flat.png", 10, 0), opened("noise.png"))
    box = (*place, place[0] + 200, place[1] + 200)
    values = to_model_range(from_pillow(opened("noise.png").crop(box).convert("L")))
    signal, noise = NoiseSchedule.from_config(ScheduleConfig()).alpha_sigma(10)
    # Four standard errors, of 40,000 values.
    assert float(values.mean()) == pytest.approx(signal * (160 / 127.5 - 1), abs=4 * noise / 200)
    assert float(values.var()) == pytest.approx(noise**2, rel=4 * math.sqrt(2) / 200)


def test_schedules_share_their_noise_and_stand_below_each_other(
    diffcli: Command, photo: Path
) -> None:
    names: list[ScheduleName] = ["cosine", "linear", "linear-rescaled"]
    result = diffcli("noise-demo", photo, "--t", "80", "--schedule", ",".join(names))
    assert result.code == 0
    figure = opened("noise.png")
    tops = [place_of(noised(photo, 80, 0, name), figure)[1] for name in names]
    assert tops == sorted(tops)
    assert len(set(tops)) == 3
    assert result.err.count("That is too much") == 1
    assert result.err.count("close enough") == 2


def test_the_marked_timesteps_are_at_their_columns(diffcli: Command, photo: Path) -> None:
    assert diffcli("noise-demo", photo, "--t", "0,150,299").code == 0
    figure = opened("noise.png")
    lower = figure.crop((0, figure.height - 200, figure.width, figure.height - 100))
    columns = [
        x
        for x in range(lower.width)
        if sum(lower.getpixel((x, y)) == MARK for y in range(lower.height)) > 40
    ]
    assert len(columns) == 6
    for first, middle, last in (columns[:3], columns[3:]):
        assert middle == pytest.approx(first + (last - first) * 150 / 299, abs=1)
        row = [lower.getpixel((x, 50)) for x in range(lower.width)]
        frame = [x for x, colour in enumerate(row) if colour == FRAME]
        width = last - first
        assert any(0 < first - x <= width / 300 + 2 for x in frame)
        assert any(0 < x - last <= width / 300 + 2 for x in frame)


def test_small_pictures_are_enlarged_pixel_by_pixel(diffcli: Command, tmp_path: Path) -> None:
    tiny_picture = Image.linear_gradient("L").resize((28, 28))
    tiny_picture.save(tmp_path / "digit.png")
    assert diffcli("noise-demo", "digit.png", "--t", "20").code == 0
    enlarged = tiny_picture.resize((196, 196), Image.Resampling.NEAREST)
    place_of(enlarged, opened("noise.png"))


@pytest.mark.parametrize(("size", "shown"), [(100, (200, 120)), (50, (200, 120)), (10, (200, 120))])
def test_size(diffcli: Command, photo: Path, size: int, shown: tuple[int, int]) -> None:
    assert diffcli("noise-demo", photo, "--t", "20", "--size", size).code == 0
    reduced = opened(photo)
    reduced.thumbnail((size, size), reducing_gap=3)
    assert max(reduced.size) == size
    place_of(reduced.resize(shown, Image.Resampling.NEAREST), opened("noise.png"))


@pytest.mark.parametrize("count", [1, 20])
def test_any_number_of_timesteps(diffcli: Command, photo: Path, count: int) -> None:
    chosen = ",".join(str(15 * index) for index in range(count))
    result = diffcli("noise-demo", photo, "--t", chosen)
    assert result.code == 0
    figure = opened("noise.png")
    for index in range(count):
        place_of(noised(photo, 15 * index, 0), figure)


def test_the_rest_of_the_picture_at_the_last_timestep(diffcli: Command, photo: Path) -> None:
    result = diffcli("noise-demo", photo)
    values = to_model_range(from_pillow(opened(photo)))
    alpha_bar = float(NoiseSchedule.from_config(ScheduleConfig()).alphas_cumprod[-1])
    mean, variance = math.sqrt(alpha_bar) * values, 1 - alpha_bar
    nats = float((mean.square() + variance - 1 - math.log(variance)).sum() / 2)
    said = " ".join(result.err.split())
    assert f"{100 * math.sqrt(alpha_bar):.3g} % of the picture's amplitude" in said
    assert f"its distribution is {nats:.3g} nats from N(0, 1)" in said


def test_a_single_timestep_with_as_much_noise_as_signal() -> None:
    """Its log-SNR is exactly 0, from the lowest to the highest."""
    noising = Noising(Image.radial_gradient("L"), seed=1)
    process = noising.process("half", NoiseSchedule(torch.tensor([0.5])), [0])
    figure = noise_figure("a.png", noising, [process])
    place_of(process.steps[0].values.picture, figure)


def test_the_histogram_has_area_one() -> None:
    noising = Noising(Image.radial_gradient("L"), seed=1)
    shown = noising.at(NoiseSchedule.from_config(ScheduleConfig()), 200).values
    assert sum(shown.density) * 8 / len(shown.density) == pytest.approx(1, abs=2e-3)


def test_a_gif_of_all_timesteps(diffcli: Command, photo: Path) -> None:
    result = diffcli("noise-demo", photo, "--frames", "5")
    assert (result.code, result.out) == (0, "noise.gif\n")
    with Image.open("noise.gif") as gif:
        assert gif.format == "GIF"
        assert getattr(gif, "n_frames", 1) == 5
        durations, columns = [], []
        for index in range(5):
            gif.seek(index)
            durations.append(gif.info["duration"])
            columns.append(_reddest_column(gif.convert("RGB")))
    assert durations == [80, 80, 80, 80, 2000]
    steps = [b - a for a, b in pairwise(columns)]
    assert min(steps) > 50
    assert max(steps) - min(steps) <= 3


def _reddest_column(frame: Image.Image) -> int:
    """Where the mark is, as near as the palette of a GIF allows."""
    lower = frame.crop((0, frame.height - 200, frame.width, frame.height - 100))

    red, green, blue = np.moveaxis(np.asarray(lower.convert("RGB")).astype(int), 2, 0)
    return int((red > 2 * np.maximum(green, blue)).sum(axis=0).argmax())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "tiny.safetensors", tiny.description(), tiny.network().state_dict())
    return tmp_path / "tiny.safetensors"


def test_reconstructions(diffcli: Command, model: Path, tmp_path: Path) -> None:
    picture = Image.linear_gradient("L").resize((8, 8))
    picture.save(tmp_path / "digit.png")
    result = diffcli("noise-demo", "digit.png", "--model", model, "--t", "3,12", "--denoise")
    assert result.code == 0
    _, denoiser = load_model(model)
    x0 = to_model_range(from_pillow(picture))[None]
    epsilon = ImageNoise([0], (1, 8, 8), x0.device)()
    nothing = torch.tensor([denoiser.network.no_label])
    figure = opened("noise.png")
    for t in (3, 12):
        x_t = denoiser.schedule.add_noise(x0, t, epsilon)
        estimate = denoiser(x_t, t, nothing).x0.clamp(-1, 1)
        assert f"{float((estimate - x0).square().mean()):.3g}" in result.err
        panel = to_pillow(to_pixels(estimate[0])).resize((200, 200), Image.Resampling.NEAREST)
        place_of(panel, figure)
    assert "final MSE" in result.err


def test_a_schedule_that_leaves_nothing(diffcli: Command, tmp_path: Path) -> None:
    """Less than the smallest number: tens of thousands of timesteps, or fewer of much noise."""
    schedule = ScheduleConfig("linear", 3000, beta_start=0.5, beta_end=0.9)
    Image.linear_gradient("L").resize((8, 8)).save("digit.png")
    save_model(Path("noisy.safetensors"), tiny.description(schedule), tiny.network().state_dict())
    demo = ("noise-demo", "digit.png", "--model", "noisy.safetensors", "--t", "0,1500,2999")
    assert diffcli(*demo, "--denoise").code == 0
    steps = json.loads(diffcli(*demo, "--json").out)["schedules"][0]["timesteps"]
    assert 0 < steps[2]["alphas_cumprod"] < steps[1]["alphas_cumprod"] < 1e-299
    assert -700 < steps[2]["log_snr"] < steps[1]["log_snr"] < -650
    assert diffcli("noise-demo", "digit.png", "--timesteps", "100000").code == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ScheduleConfig("cosine", 20)),
        (["--timesteps", "50"], ScheduleConfig("cosine", 50)),
        (["--schedule", "linear"], ScheduleConfig("linear", 20)),
        (["--schedule", "linear", "--timesteps", "50"], ScheduleConfig("linear", 50)),
    ],
)
def test_what_is_not_given_is_that_of_the_model(
    diffcli: Command, model: Path, options: list[str], expected: ScheduleConfig
) -> None:
    Image.linear_gradient("L").resize((8, 8)).save("digit.png")
    result = diffcli("noise-demo", "digit.png", "-m", model, "--t", "0,19", "--json", *options)
    schedule = NoiseSchedule.from_config(expected)
    steps = json.loads(result.out)["schedules"][0]["timesteps"]
    assert [step["alphas_cumprod"] for step in steps] == schedule.alphas_cumprod[[0, 19]].tolist()


def test_numbers_do_not_need_a_place_for_the_figure(
    diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.linear_gradient("L").save("grey.png")
    Path("noise.png").mkdir()
    assert diffcli("noise-demo", "grey.png").is_one_line_error(2, "noise.png is a folder")
    result = diffcli("noise-demo", "grey.png", "--json")
    assert (result.code, result.err) == (0, "")
    assert [schedule["name"] for schedule in json.loads(result.out)["schedules"]] == ["linear"]


def test_denoising_begins_where_the_noise_is_alike(model: Path) -> None:
    _, denoiser = load_model(model)
    noising = Noising(Image.linear_gradient("L").resize((8, 8)), seed=0)
    own = noising.process("own", denoiser.schedule, [7], denoiser, denoise=True)
    # A schedule whose alpha_bar at 0 is the model's at 7.
    beta = float(1 - denoiser.schedule.alphas_cumprod[7])
    other = NoiseSchedule(torch.tensor([beta], dtype=torch.float64))
    same = noising.process("other", other, [0], denoiser, denoise=True)
    assert same.steps[0].estimate == own.steps[0].estimate
    assert same.steps[0].denoised == own.steps[0].denoised


def test_the_picture_is_fitted_to_a_named_model(diffcli: Command, model: Path, photo: Path) -> None:
    result = diffcli("noise-demo", photo, "--model", model)
    assert result.code == 0
    assert f"model: {model}" in result.err
    assert "1-step MSE" in result.err


def test_a_picture_smaller_than_the_model(diffcli: Command, model: Path, photo: Path) -> None:
    result = diffcli("noise-demo", photo, "--model", model, "--size", "3")
    assert result.code == 0
    assert "1-step MSE" in result.err


def test_the_newest_run_is_used_for_pictures_of_its_shape(
    diffcli: Command, model: Path, photo: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    model.rename(tmp_path / "runs" / "a" / "model.safetensors")
    Image.new("L", (8, 8), 90).save(tmp_path / "digit.png")
    assert "MSE" in diffcli("noise-demo", "digit.png").err
    assert "MSE" not in diffcli("noise-demo", photo).err
    assert "MSE" not in diffcli("noise-demo", "digit.png", "--size", "4").err
    refused = diffcli("noise-demo", photo, "--denoise")
    assert refused.is_one_line_error(2, "8x8", "grey", "--model")


def test_the_default_schedule_is_the_classic_one(
    diffcli: Command, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    model.rename(tmp_path / "runs" / "a" / "model.safetensors")
    Image.new("L", (8, 8), 90).save(tmp_path / "digit.png")
    result = diffcli("noise-demo", "digit.png", "--t", "299")
    assert "0.0481" in result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--t", "300"], ["300", "0 .. 299"]),
        (["--t", "-1"], ["-1", "150"]),
        (["--t", "x"], ["'x'", "150"]),
        (["--t", "5,,6"], ["'5,,6'", "150"]),
        (["--t", "50", "--timesteps", "50"], ["0 .. 49"]),
        (["--schedule", "linear,quadratic"], ["quadratic", "cosine"]),
        (["--frames", "5", "-o", "a.png"], ["--frames", ".gif"]),
        (["--t", "5", "-o", "a.gif"], ["--t", ".png"]),
        (["-o", "a.jpg"], ["a.jpg", ".png"]),
        (["--model", "nothing"], ["nothing", "model"]),
    ],
)
def test_wrong_usage(diffcli: Command, photo: Path, arguments: list[str], words: list[str]) -> None:
    before = {path.name for path in Path().iterdir()}
    assert diffcli("noise-demo", photo, *arguments).is_one_line_error(2, *words)
    assert {path.name for path in Path().iterdir()} == before


def test_no_picture(diffcli: Command, tmp_path: Path) -> None:
    missing = diffcli("noise-demo", "none.png")
    assert missing.is_one_line_error(2, "there is no picture none.png; name another one")
    (tmp_path / "text.png").write_text("text")
    assert diffcli("noise-demo", "text.png").is_one_line_error(1, "text.png", "PNG")


def test_a_model_of_another_kind(diffcli: Command, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing of the kind")
    result = diffcli("noise-demo", photo, "--model", "x.safetensors")
    assert result.is_one_line_error(1, "x.safetensors", "--model")


@pytest.mark.parametrize("columns", [80, 40])
def test_numbers_are_whole_in_narrow_terminals(
    diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    Image.new("L", (28, 28), 90).save(tmp_path / "grey.png")
    monkeypatch.setenv("COLUMNS", str(columns))
    said = diffcli("noise-demo", "grey.png", "-m", "mnist", "--denoise", "--t", "298,299").err
    assert "…" not in said
    assert ("2.699e-08" in said) == (columns == 80)
