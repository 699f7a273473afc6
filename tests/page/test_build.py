"""What is in a page, and what is refused."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from diffcli.core.denoiser import Denoiser
from diffcli.core.parameters import SamplingSettings, ScheduleConfig, UNetConfig
from diffcli.core.schedule import NoiseSchedule
from diffcli.errors import UsageError
from diffcli.files.checkpoint import save_model
from diffcli.page.build import build_page, bundle
from tests import tiny
from tests.conftest import Command
from tests.page.scripts import check_syntax, parts

WEB = Path(__file__).parents[2] / "diffcli" / "page" / "web"


@pytest.mark.process
def test_the_scripts_are_whole_and_each_is_there_once() -> None:
    for name in ("main", "worker"):
        script = bundle(name)
        # Two of the same name at the top level would be an error of syntax.
        check_syntax(script)
        assert "import {" not in script
        assert "\nexport " not in script
        assert script.count("class Schedule") == 1
    used = {line for name in ("main", "worker") for line in bundle(name).splitlines()}
    for module in WEB.glob("*.js"):
        lines = [line for line in module.read_text().splitlines() if "function" in line]
        assert {line.removeprefix("export ") for line in lines} <= used, module


def test_weights_are_there_to_15_bits() -> None:
    page = build_page(tiny.description(), tiny.denoiser())
    found = parts(page)
    model = json.loads(found["model"])
    numbers = np.frombuffer(base64.b64decode(found["weights"]), dtype="<i2")
    weights = tiny.denoiser().network.state_dict()
    assert [tensor["name"] for tensor in model["tensors"]] == list(weights)
    assert len(numbers) == sum(tensor.numel() for tensor in weights.values())
    start = 0
    for tensor in model["tensors"]:
        part = numbers[start : start + tensor["count"]] * tensor["scale"]
        start += tensor["count"]
        expected = weights[tensor["name"]].flatten().double()
        error = (torch.from_numpy(part) - expected).abs().max()
        assert error <= expected.abs().max() / 2**16 * 1.01


def test_weights_that_are_all_zero() -> None:
    denoiser = tiny.denoiser()
    nn.init.zeros_(denoiser.network.head.weight)
    tensors = json.loads(parts(build_page(tiny.description(), denoiser))["model"])["tensors"]
    assert [t["scale"] for t in tensors if t["name"] == "head.weight"] == [1.0]


def contrast(one: str, other: str) -> float:
    """The ratio of two colours ``#rrggbb`` (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return sum(w * part for w, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_what_is_shown_can_be_told_from_the_ground() -> None:
    style = (WEB / "page.css").read_text()
    themes = [
        dict(re.findall(r"--(\w+): (#\w{6});", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(themes) == 2
    for theme in themes:
        for ground in ("ground", "panel"):
            for text in ("text", "faint", "accent", "first"):
                assert contrast(theme[text], theme[ground]) > 4.5, (text, ground)
            for graphic in ("second", "third", "fourth"):
                assert contrast(theme[graphic], theme[ground]) > 3, (graphic, ground)


def test_whether_labels_can_be_compared() -> None:
    one = tiny.description(ScheduleConfig("cosine", 1), sampling=SamplingSettings("ddim", 1))
    few = replace(tiny.description(), sampling=SamplingSettings("consistency", 2))
    for description, possible in ((tiny.description(), True), (one, False), (few, False)):
        page = build_page(description, description.build())
        assert json.loads(parts(page)["model"])["gives_likelihood"] is possible


def test_pictures_of_few_values_are_refused() -> None:
    small = UNetConfig(1, 4, 3, 3, 1, (16,), (1,), 32)
    denoiser = Denoiser(tiny.network(small), NoiseSchedule.from_config(tiny.COSINE), "v_prediction")
    with pytest.raises(UsageError, match="of 16 values or more"):
        build_page(replace(tiny.description(), architecture=small), denoiser)


def test_no_name_turns_the_direction_of_writing() -> None:
    description = replace(
        tiny.description(), dataset="a\u202eb", class_names=("c\u202ed", "e\x07", "f")
    )
    page = build_page(description, tiny.denoiser()).decode()
    assert "\u202e" not in page
    model = json.loads(parts(page.encode())["model"])
    assert model["dataset"] == r"a\u202eb"
    assert model["class_names"] == [r"c\u202ed", r"e\x07", "f"]


def test_a_name_cannot_end_the_element_that_it_stands_in() -> None:
    description = replace(tiny.description(), class_names=("</script><b>", "<!--", "c"))
    page = build_page(description, tiny.denoiser()).decode()
    assert "</script><b>" not in page
    assert "<!--" not in page
    names = json.loads(parts(page.encode())["model"])["class_names"]
    assert names == ["</script><b>", "<!--", "c"]


def test_only_its_own_scripts_and_styles_may_run() -> None:
    description = replace(tiny.description(), dataset="secret/place/<b>")
    page = build_page(description, tiny.denoiser()).decode()
    assert "<title>A diffusion model of &lt;b&gt;</title>" in page
    assert "secret" not in page
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    (script,) = re.findall(r'<script type="module">(.*?)</script>', page, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    for text in (script, style):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    # Nothing is loaded: no address of another place stands in it.
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?https?:""", page)


@pytest.mark.parametrize(
    ("dataset", "shown"), [(r"C:\Users\bob\cats", "cats"), (".", "pictures"), ("mnist", "mnist")]
)
def test_of_the_data_set_only_the_name_is_told(dataset: str, shown: str) -> None:
    page = build_page(replace(tiny.description(), dataset=dataset), tiny.denoiser())
    assert json.loads(parts(page)["model"])["dataset"] == shown
    assert f"<title>A diffusion model of {shown}</title>" in page.decode()


def test_the_command(diffcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = diffcli("page", "-m", "mnist")
    assert (done.code, done.out) == (0, "page.html\n")
    size = Path("page.html").stat().st_size
    assert 4_000_000 < size < 5_000_000
    assert f"{size / 1e6:.1f} MB" in done.err
    document = json.loads(diffcli("page", "-m", "mnist", "--json", "--quiet", "-o", "b.html").out)
    assert (document["file"], document["bytes"]) == ("b.html", size)
    assert Path("b.html").read_bytes() == Path("page.html").read_bytes()
    assert diffcli("page", "-m", "mnist").out == "page-1.html\n"
    assert diffcli("page", "-o", "a.png").is_one_line_error(2, "a.png", ".html")
    assert diffcli("page", "-m", "nothing").is_one_line_error(2, "nothing")


def test_a_model_that_is_too_large(diffcli: Command, tmp_path: Path) -> None:
    config = UNetConfig(channels=(256, 512), blocks=(1, 3))
    description = tiny.description()
    names = tuple(str(i) for i in range(10))
    large = type(description)(**{**vars(description), "architecture": config, "class_names": names})
    path = tmp_path / "large.safetensors"
    save_model(path, large, tiny.network(config).state_dict())
    done = diffcli("page", "--model", path, "-o", tmp_path / "a.html")
    assert done.is_one_line_error(2, "MB", "narrower", "--model")
    assert not (tmp_path / "a.html").exists()
