import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from diffcli.errors import DiffcliError
from diffcli.evaluation.frechet import Gaussian, fit_gaussian, frechet_distance

seeds = st.integers(0, 2**32 - 1)


def random_features(seed: int, count: int, dimension: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimension, dimension, generator=generator)
    shift = torch.randn(dimension, generator=generator)
    return torch.randn(count, dimension, generator=generator) @ mixing + shift


@given(seed=seeds, dimension=st.integers(1, 12))
def test_it_is_the_formula_with_scipys_square_root(seed: int, dimension: int) -> None:
    a = fit_gaussian(random_features(seed, 40, dimension))
    b = fit_gaussian(random_features(seed + 1, 50, dimension))
    root = sqrtm(a.covariance.numpy() @ b.covariance.numpy())
    expected = float((a.mean - b.mean).square().sum()) + np.trace(
        a.covariance.numpy() + b.covariance.numpy() - 2 * np.real(root)
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(
    first=st.lists(st.floats(0, 50), min_size=3, max_size=3),
    second=st.lists(st.floats(0, 50), min_size=3, max_size=3),
    shift=st.lists(st.floats(-9, 9), min_size=3, max_size=3),
)
def test_independent_gaussians_have_a_closed_form(
    first: list[float], second: list[float], shift: list[float]
) -> None:
    a = Gaussian(torch.zeros(3).double(), torch.tensor(first).double().square().diag())
    b = Gaussian(torch.tensor(shift).double(), torch.tensor(second).double().square().diag())
    expected = sum(s**2 for s in shift) + sum(
        (x - y) ** 2 for x, y in zip(first, second, strict=True)
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5, abs=1e-3)


def test_rotated_gaussians_have_the_distance_of_their_axes() -> None:
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(3)))
    turn = turn.double()
    spread = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0]).double()
    a = Gaussian(torch.zeros(5).double(), turn @ spread.square().diag() @ turn.T)
    b = Gaussian(torch.ones(5).double(), turn @ (spread + 1).square().diag() @ turn.T)
    assert frechet_distance(a, b) == pytest.approx(5 + 5, rel=1e-6)


def test_a_set_has_no_distance_to_itself_and_the_same_both_ways() -> None:
    a = fit_gaussian(random_features(1, 30, 8))
    b = fit_gaussian(random_features(2, 30, 8))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_the_fit_is_numpys() -> None:
    features = random_features(5, 200, 6)
    fitted = fit_gaussian(features)
    assert np.allclose(fitted.mean, features.double().numpy().mean(axis=0))
    assert np.allclose(fitted.covariance, np.cov(features.double().numpy(), rowvar=False))


def test_features_in_double_precision_stay_as_they_are() -> None:
    features = random_features(5, 20, 6).double()
    before = features.clone()
    fit_gaussian(features)
    assert torch.equal(features, before)


def test_too_few_images_for_a_covariance_are_refused() -> None:
    fit_gaussian(torch.randn(9, 8))
    with pytest.raises(DiffcliError, match=r"8 images are too few for 8 .* 9 are needed$"):
        fit_gaussian(torch.randn(8, 8))
