from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffcli.data.images import LabelledImages
from diffcli.errors import DiffcliError, UsageError
from diffcli.evaluation.samples import Samples, draw_samples, fit_samples, read_samples
from diffcli.files.arrays import PictureArrays, save_npz
from diffcli.files.naming import file_names
from diffcli.files.pictures import to_pillow
from diffcli.sampling.model import Model
from tests import tiny
from tests.evaluation.pictures import NAMES, bars


def load_samples(path: Path, data: LabelledImages) -> PictureArrays:
    return fit_samples(read_samples(path), data)


def test_folders_are_named_after_classes(tmp_path: Path) -> None:
    data = bars(12, seed=1)
    for name in ("none", "across"):
        (tmp_path / name).mkdir()
    to_pillow(data.images[0]).save(tmp_path / "across" / "a.png")
    to_pillow(data.images[2]).save(tmp_path / "none" / "b.png")
    samples = load_samples(tmp_path, data)
    assert samples.labels.tolist() == [0, 2]
    assert torch.equal(samples.images, data.images[[0, 2]])
    assert samples.seeds is None


def test_grey_pictures_in_rgb_become_grey(tmp_path: Path) -> None:
    data = bars(12, seed=1)
    save_npz(tmp_path / "a.npz", data.images.expand(-1, 3, -1, -1), data.labels, range(12))
    samples = load_samples(tmp_path / "a.npz", data)
    assert torch.equal(samples.images, data.images)
    assert samples.seeds is not None
    assert samples.seeds.tolist() == list(range(12))
    coloured = data.images.repeat(1, 3, 1, 1)
    coloured[5, 2] = 77
    rgb = replace(data, images=data.images.repeat(1, 3, 1, 1))
    save_npz(tmp_path / "b.npz", coloured, data.labels)
    assert torch.equal(load_samples(tmp_path / "b.npz", rgb).images, coloured)
    with pytest.raises(DiffcliError, match="the samples are 8x8 RGB"):
        load_samples(tmp_path / "b.npz", data)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_grey_pictures_become_rgb_if_the_data_is(mode: str, tmp_path: Path) -> None:
    grey = bars(12, seed=1)
    data = replace(grey, images=grey.images.repeat(1, 3, 1, 1))
    (tmp_path / "across").mkdir()
    to_pillow(grey.images[0]).convert(mode).save(tmp_path / "across" / "a.png")
    assert torch.equal(load_samples(tmp_path, data).images, data.images[:1])


def test_a_folder_of_no_class_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "cats" / "a.png")
    with pytest.raises(DiffcliError, match="'cats', which is no class"):
        load_samples(tmp_path, bars(9, seed=1))


def in_folders(*names: str) -> Samples:
    """A picture in each folder."""
    images = bars(len(names), seed=1).images
    return Samples(PictureArrays(images, torch.arange(len(names)), None), names)


def test_folders_are_named_as_sample_names_them() -> None:
    class_names = ("cats & dogs", "birds", "none")
    data = replace(bars(9, seed=1), class_names=class_names)
    assert file_names(class_names)[0] == "cats _ dogs"
    assert fit_samples(in_folders("birds", "cats _ dogs"), data).labels.tolist() == [1, 0]
    assert fit_samples(in_folders("birds", "cats & dogs"), data).labels.tolist() == [1, 0]
    with pytest.raises(DiffcliError, match="a folder 'mice'"):
        fit_samples(in_folders("cats _ dogs", "mice"), data)


def test_samples_of_another_shape_or_other_labels_are_refused_when_they_are_read() -> None:
    data = bars(9, seed=1)
    wide = PictureArrays(data.images.repeat(1, 1, 1, 2), data.labels, None)
    with pytest.raises(DiffcliError, match=r"the samples are 16x8 grey, and .* are 8x8 grey"):
        fit_samples(Samples(wide, None), data)
    odd = PictureArrays(data.images, data.labels + 1, None)
    with pytest.raises(DiffcliError, match=r"labels from 1 to 3, and the data set has 0 to 2"):
        fit_samples(Samples(odd, None), data)


def test_a_damaged_picture_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for index in range(20):
        Image.new("L", (8, 8)).save(tmp_path / "none" / f"{index}.png")
    (tmp_path / "none" / "7.png").write_bytes(b"no picture")
    with pytest.raises(DiffcliError, match=r"1 pictures .* cannot be read"):
        load_samples(tmp_path, bars(9, seed=1))


def test_a_model_draws_the_proportions_of_the_data_set() -> None:
    data = bars(30, seed=1)
    uneven = data.subset(torch.tensor([0, 3, 6, 1, 2]))  # three, one, one
    model = Model(replace(tiny.description(), class_names=NAMES), tiny.denoiser(), Path())
    settings = model.settings()
    reports: list[tuple[int, int]] = []
    samples = draw_samples(model, uneven, 10, 40, settings, lambda *report: reports.append(report))
    assert samples.labels.bincount().tolist() == [6, 2, 2]
    assert samples.seeds is not None
    assert samples.seeds.tolist() == list(range(40, 50))
    assert reports[-1] == (10, 10)
    label = samples.labels[9]
    alone = model.sample(str(int(label)), n=1, seed=49)
    assert (alone[0].int() - samples.images[9].int()).abs().max() <= 1


def test_a_model_of_other_classes_is_refused() -> None:
    model = Model(tiny.description(), tiny.denoiser(), Path())
    with pytest.raises(UsageError, match="and the data set has across, down, none") as caught:
        draw_samples(model, bars(9, seed=1), 3, 0, model.settings())
    assert caught.value.argument == "data"
