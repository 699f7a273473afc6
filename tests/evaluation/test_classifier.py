import pytest
import torch
from torch import Tensor

from diffcli.data.images import LabelledImages, to_pixels
from diffcli.evaluation import classifier
from diffcli.evaluation.classifier import default_epochs, jitter, train_classifier
from diffcli.evaluation.network import FeatureNetworkConfig, bounded, read_images
from tests.evaluation.pictures import bars

CONFIG = FeatureNetworkConfig("residual", 1, 3, (8, 8))


def weights(data: LabelledImages, seed: int) -> list[Tensor]:
    return list(train_classifier(CONFIG, data, seed, epochs=1).state_dict().values())


def test_it_learns_classes_that_differ() -> None:
    train, test = bars(600, seed=1), bars(200, seed=2)
    network = train_classifier(CONFIG, train, seed=0, epochs=12)
    assert not network.training
    recognised = read_images(network, test.images).logits.argmax(dim=1)
    assert float((recognised == test.labels).float().mean()) > 0.95


def test_the_seed_decides_the_weights() -> None:
    data = bars(300, seed=1)
    first, again, other = weights(data, 0), weights(data, 0), weights(data, 1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_images_are_jittered_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bars(300, seed=1)
    jittered = weights(data, 0)
    monkeypatch.setattr(classifier, "jitter", lambda images, _: images)
    assert not torch.equal(weights(data, 0)[0], jittered[0])


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    weights(bars(200, seed=1), 0)
    assert torch.equal(torch.randn(3), expected)


def test_fewer_images_than_a_batch_are_enough() -> None:
    seen: list[tuple[int, int]] = []
    train_classifier(CONFIG, bars(20, seed=1), 0, 3, lambda *report: seen.append(report))
    assert seen == [(20, 60), (40, 60), (60, 60)]


def test_each_image_is_seen_once_in_every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.arange(150, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 8, 8)
    data = LabelledImages(images, torch.arange(150) % 3, ("a", "b", "c"))
    batches: list[list[int]] = []

    def see(batch: Tensor, _: torch.Generator) -> Tensor:
        batches.append(to_pixels(batch)[:, 0, 0, 0].tolist())
        return batch

    monkeypatch.setattr(classifier, "jitter", see)
    reports: list[tuple[int, int]] = []
    train_classifier(CONFIG, data, 0, 3, lambda *report: reports.append(report))
    assert [len(batch) for batch in batches] == [113, 113, 112, 112]
    assert reports == [(113, 450), (226, 450), (338, 450), (450, 450)]
    seen = [index for batch in batches for index in batch]
    for epoch in range(3):
        assert sorted(seen[150 * epoch :][:150]) == list(range(150))


@pytest.mark.parametrize("shape", [(3, 8), (200, 90)])
def test_images_of_any_size_are_learnt_as_the_network_sees_them(shape: tuple[int, int]) -> None:
    images = torch.randint(256, (20, 1, *shape), dtype=torch.uint8)
    data = LabelledImages(images, torch.arange(20) % 3, ("a", "b", "c"))
    seen = LabelledImages(bounded(images), data.labels, data.class_names)
    assert seen.images.shape[2:] != shape
    assert all(torch.equal(a, b) for a, b in zip(weights(data, 0), weights(seen, 0), strict=True))


def test_few_images_are_seen_more_often_but_not_without_end() -> None:
    assert default_epochs(60_000) == 6
    assert default_epochs(10_000) == 25
    assert default_epochs(1000) == 250
    assert default_epochs(36) == default_epochs(800) == 300


def test_jitter_moves_every_image_in_its_own_way() -> None:
    image = torch.linspace(-1, 1, 12 * 12).view(1, 1, 12, 12)
    moved = jitter(image.expand(5, -1, -1, -1), torch.Generator().manual_seed(0))
    assert moved.shape == (5, 1, 12, 12)
    assert len({tuple(part.flatten().tolist()) for part in moved}) == 5
    # It resamples what is there, and the middle, which nothing moves far, stays near itself.
    assert moved.min() >= -1
    assert moved.max() <= 1
    assert (moved[:, 0, 5:7, 5:7].mean(dim=(1, 2)) - image[0, 0, 5:7, 5:7].mean()).abs().max() < 0.3


def test_jitter_rotates_scales_shears_and_shifts_by_what_is_drawn() -> None:
    """Pictures of their own coordinates say where each pixel comes from."""
    side, count = 32, 20
    along = (torch.arange(side) * 2 + 1) / side - 1
    y, x = torch.meshgrid(along, along, indexing="ij")
    moved = jitter(torch.stack([x, y]).expand(count, -1, -1, -1), torch.Generator().manual_seed(3))
    # No pixel of the middle comes from beyond the border, and all are affine in their places.
    middle = (slice(None), slice(8, -8), slice(8, -8))
    places = torch.stack([x, y, torch.ones_like(x)])[middle].flatten(1)
    origins = moved[:, *middle].flatten(2)
    affine = origins @ places.pinverse()
    torch.testing.assert_close(affine @ places, origins, rtol=0, atol=1e-5)

    (a, b, right), (c, d, down) = affine.permute(1, 2, 0)
    turn = c.asin()
    found = torch.stack(
        [
            turn / 0.2,
            (a / turn.cos() - 1) / 0.12,
            (d / turn.cos() - 1) / 0.12,
            (b + c) / 0.15,
            right / 0.15,
            down / 0.15,
        ]
    )
    drawn = torch.rand(6, count, generator=torch.Generator().manual_seed(3)) * 2 - 1
    torch.testing.assert_close(found, drawn, rtol=0, atol=1e-4)
