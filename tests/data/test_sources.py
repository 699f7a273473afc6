"""Data sets by path: what is no path, and what is held out."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffcli.data.sources import DataSet, load_data
from diffcli.errors import UsageError
from tests.data.files import put


@pytest.mark.parametrize("source", ["nowhere", "~no-such-user/pictures"])
def test_what_is_neither_a_name_nor_a_path_is_wrong_usage(source: str) -> None:
    with pytest.raises(UsageError, match="is neither a path nor one of mnist, fashion") as caught:
        load_data(source)
    assert caught.value.argument == "data"


def test_a_home_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    put(tmp_path / "images-idx3", torch.zeros(4, 2, 2), torch.zeros(4))
    assert len(load_data("~/images-idx3").train) == 3


def test_a_path_that_is_not_unicode_is_wrong_usage() -> None:
    """It would be written into the model, at the end."""
    with pytest.raises(UsageError, match=r"pictures/caf\\udce9 is not valid Unicode") as caught:
        load_data("pictures/caf\udce9")
    assert caught.value.argument == "data"


def split(folder: Path, counts: Sequence[int]) -> DataSet:
    """A data set of so many images of each label, all of them different."""
    labels = torch.repeat_interleave(torch.tensor(counts))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images = torch.arange(len(labels)).view(-1, 1, 1) * torch.tensor([1, 0]) % 256
    images[..., 1] = torch.arange(len(labels)).view(-1, 1) // 256
    put(folder / "images-idx3", images, labels[order])
    return load_data(str(folder / "images-idx3"))


@given(st.lists(st.integers(0, 30) | st.just(1), min_size=1, max_size=60).filter(any))
def test_every_label_is_trained_on(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int]
) -> None:
    data = split(tmp_path_factory.mktemp("set"), counts)
    present = {label for label, count in enumerate(counts) if count}
    assert set(data.train.labels.tolist()) == present
    train, held_out = (
        {tuple(pixels) for pixels in part.images.flatten(1).tolist()}
        for part in (data.train, data.held_out)
    )
    assert len(train | held_out) == sum(counts)
    assert held_out
    if any(counts[label] > 1 for label in data.held_out.labels.tolist()):
        assert not train & held_out


def test_of_single_images_some_are_used_as_both(tmp_path: Path) -> None:
    data = split(tmp_path, [1] * 20)
    assert (len(data.train), len(data.held_out)) == (20, 4)
    mixed = split(tmp_path, [1] * 20 + [20])
    assert len(mixed.train) + len(mixed.held_out) == 40
    assert set(mixed.held_out.labels.tolist()) == {20}
