import math

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from hypothesis import given
from hypothesis import strategies as st

from diffcli.core.embedding import SinusoidalPositionEmbedding


def formula(t: float, dim: int, max_period: float = 10_000.0) -> list[float]:
    """The definition, a number at a time, in double precision."""
    half = dim // 2
    angles = [t * math.exp(-i * math.log(max_period) / (half - 1)) for i in range(half)]
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


@pytest.mark.parametrize("dim", [4, 6, 16, 64, 128, 256])
def test_it_is_the_formula(dim: int) -> None:
    t = torch.tensor([0, 1, 2, 17, 150, 299, 999])
    expected = torch.tensor([formula(float(value), dim) for value in t], dtype=torch.float64)
    # An angle of 999 has a resolution of 6e-5 in float32.
    assert torch.allclose(SinusoidalPositionEmbedding(dim)(t).double(), expected, atol=1e-4)


def test_another_max_period() -> None:
    expected = torch.tensor(formula(7.0, 8, max_period=100.0))
    assert torch.allclose(SinusoidalPositionEmbedding(8, 100.0)(torch.tensor([7]))[0], expected)


@pytest.mark.parametrize("dim", [4, 32, 256])
def test_diffusers_agrees(dim: int) -> None:
    t = torch.arange(300)
    peer = get_timestep_embedding(t, dim, flip_sin_to_cos=False, downscale_freq_shift=1)
    assert torch.allclose(SinusoidalPositionEmbedding(dim)(t), peer, atol=1e-4)


def test_dim_two_is_one_pair_at_frequency_one() -> None:
    t = torch.tensor([0.0, 1.0, 2.5])
    expected = torch.stack([t.sin(), t.cos()], dim=1)
    assert torch.equal(SinusoidalPositionEmbedding(2)(t), expected)


@given(
    half=st.integers(1, 300),
    t=st.lists(st.integers(0, 100_000), min_size=1, max_size=8),
    dtype=st.sampled_from([torch.int32, torch.int64, torch.float32, torch.float64]),
)
def test_every_even_dim_has_the_right_width_and_no_nan(
    half: int, t: list[int], dtype: torch.dtype
) -> None:
    embedded = SinusoidalPositionEmbedding(2 * half)(torch.tensor(t, dtype=dtype))
    assert embedded.shape == (len(t), 2 * half)
    assert embedded.dtype == torch.float32
    sines, cosines = embedded.double().chunk(2, dim=1)
    assert torch.allclose(sines**2 + cosines**2, torch.ones(1, dtype=torch.float64), atol=1e-6)


@pytest.mark.parametrize("dim", [-2, -1, 0, 1, 3, 5, 127])
def test_odd_and_non_positive_dims_are_refused(dim: int) -> None:
    with pytest.raises(ValueError, match=f"even and positive, not {dim}"):
        SinusoidalPositionEmbedding(dim)


@pytest.mark.parametrize("max_period", [1.0, 0.0, -5.0, math.inf, math.nan])
def test_impossible_periods_are_refused(max_period: float) -> None:
    with pytest.raises(ValueError, match="max_period"):
        SinusoidalPositionEmbedding(8, max_period)


def test_wavelengths_run_from_one_turn_to_max_period_turns() -> None:
    embedding = SinusoidalPositionEmbedding(64)
    wavelengths = 2 * math.pi / embedding.frequencies.double()
    assert wavelengths.shape == (32,)
    assert wavelengths[0].item() == pytest.approx(2 * math.pi)
    assert wavelengths[-1].item() == pytest.approx(2 * math.pi * 10_000)
    ratios = wavelengths[1:] / wavelengths[:-1]
    assert torch.allclose(ratios, ratios[:1], rtol=1e-5)
    for pair in (0, 7, 20):
        turn = embedding(torch.tensor([3.0, 3.0 + wavelengths[pair].item()]))
        assert turn[0, pair].item() == pytest.approx(turn[1, pair].item(), abs=1e-3)


def test_nothing_of_it_is_stored_in_a_checkpoint() -> None:
    assert SinusoidalPositionEmbedding(8).state_dict() == {}
