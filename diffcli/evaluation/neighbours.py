"""Nearest neighbours: fidelity and diversity in feature space, copies in pixel space.

Distances are computed for a block of rows at a time, so that memory does not grow with the
square of the number of images.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from diffcli.errors import DiffcliError
from diffcli.evaluation.network import OnProgress

NEIGHBOURS = 5

_ROWS = 256
# Of images in float32; blocks of few digits would take longer than one of all.
_VALUES = 2**22

# Beyond these, pictures that are only more typical than real ones count as well.
_QUANTILES = (0.01, 0.05, 0.1, 0.25)
_STANDARD_ERRORS = 2
_MANY_COPIES = 0.1


class Manifolds(NamedTuple):
    """How two sets of features cover each other, by balls that reach to the k-th neighbour."""

    precision: float
    """Share of the samples within the ball of some real image."""
    recall: float
    """Share of the real images within the ball of some sample."""
    density: float
    """Mean number of real images' balls that a sample lies in, divided by k."""
    coverage: float
    """Share of the real images whose ball holds a sample."""


def compare_manifolds(
    real: Tensor, samples: Tensor, k: int = NEIGHBOURS, on_progress: OnProgress | None = None
) -> Manifolds:
    """Precision and recall, density and coverage.

    The first two are by Kynkaanniemi et al. 2019, eq. 2 with the indicator of eq. 1, the last two
    by Naeem et al. 2020, eq. 2 and 3.  A ball reaches from its centre to the k-th nearest other
    point of the same set, which lies in it.

    Args:
        real: features ``(N, D)``.
        samples: features ``(M, D)``.
        k: which neighbour.
        on_progress: called after every block of real images.

    Raises:
        DiffcliError: if a set has no more than k points.
    """
    if min(len(real), len(samples)) <= k:
        raise DiffcliError(f"{min(len(real), len(samples))} images are too few for {k} neighbours")
    # Centring keeps the products below small, so that little cancels.
    centre = real.double().mean(dim=0)
    real, samples = real.double() - centre, samples.double() - centre
    real_radii, sample_radii = _radii(real, k), _radii(samples, k)
    balls_around_samples = torch.zeros(len(samples), dtype=torch.long)
    recalled = covered = 0
    for rows, squares in _squared_distances(real, samples):
        inside = squares <= real_radii[rows, None]
        balls_around_samples += inside.sum(dim=0)
        covered += int(inside.any(dim=1).sum())
        recalled += int((squares <= sample_radii).any(dim=1).sum())
        if on_progress:
            on_progress(rows.stop, len(real))
    return Manifolds(
        precision=float((balls_around_samples > 0).double().mean()),
        recall=recalled / len(real),
        density=float(balls_around_samples.double().mean()) / k,
        coverage=covered / len(real),
    )


def _radii(points: Tensor, k: int) -> Tensor:
    """Squared distance of each point to its k-th nearest other one."""
    radii = torch.empty(len(points), dtype=points.dtype)
    for rows, squares in _squared_distances(points, points):
        # The nearest of all is the point itself.
        radii[rows] = squares.kthvalue(k + 1, dim=1).values
    return radii


def _squared_distances(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Blocks of ``|a_i - b_j|^2``, ``(rows, len(b))``, as ``|a|^2 + |b|^2 - 2 a b``.

    Each is overwritten by the next one.
    """
    a_squares, b_squares = a.square().sum(dim=1, keepdim=True), b.square().sum(dim=1)
    # Allocating memory for every block takes longer than the products.
    memory = a.new_empty(_ROWS, len(b))
    for start in range(0, len(a), _ROWS):
        rows = slice(start, min(start + _ROWS, len(a)))
        block = memory[: rows.stop - start]
        torch.addmm(b_squares, a[rows], b.T, alpha=-2, out=block)
        yield rows, block.add_(a_squares[rows]).clamp_(min=0)


class Nearest(NamedTuple):
    """For each image the closest one of another set."""

    distances: Tensor
    """Euclidean, between pixels in [0, 1], float32 ``(N,)``."""
    indices: Tensor
    """Indices of these, int64 ``(N,)``."""


def nearest_images(images: Tensor, among: Tensor, on_progress: OnProgress | None = None) -> Nearest:
    """Find the closest image by Euclidean distance of the pixels.

    Of several that are as close, it is the first one.

    Args:
        images: uint8 ``(N, C, H, W)``.
        among: uint8 ``(M, C, H, W)``, to search.
        on_progress: called after every block of these.
    """
    least = torch.full((len(images),), math.inf)
    indices = torch.zeros(len(images), dtype=torch.long)
    size = max(_ROWS, _VALUES // among[0].numel())
    # A block at a time: as float32, a data set takes four times its memory.
    for start in range(0, len(among), size):
        known = _centred(among[start : start + size])
        squares = known.square().sum(dim=1)
        for first in range(0, len(images), _ROWS):
            rows = slice(first, first + _ROWS)
            # |image|^2 is the same for the whole row and does not change the minimum.
            products = torch.addmm(squares, _centred(images[rows]), known.T, alpha=-2)
            found, places = products.min(dim=1)
            indices[rows] = torch.where(found < least[rows], start + places, indices[rows])
            least[rows] = found.minimum(least[rows])
        if on_progress:
            on_progress(min(start + size, len(among)), len(among))
    # From differences, because the products of large images are rounded: a copy has exactly 0.
    distances = [
        (some.float().div_(255) - among[index].float().div_(255)).flatten(1).norm(dim=1)
        for some, index in zip(images.split(_ROWS), indices.split(_ROWS), strict=True)
    ]
    return Nearest(torch.cat(distances), indices)


def _centred(images: Tensor) -> Tensor:
    """uint8 ``(N, C, H, W)`` to float32 ``(N, C * H * W)`` in -128 .. 127.

    Of these, float32 adds up to 1,024 products exactly: equal images have the same distance in
    every block.
    """
    return images.flatten(1).float().sub_(128)


def share_of_copies(distances: Tensor, usual: Tensor) -> float:
    """How many images are copies of training images, at least.

    If a share of the images is closer to its training images than some distance, and the others
    are as far away as held-out images are, then ``F = share + (1 - share) * p`` of all images are
    closer than it, where ``p`` is the chance that a held-out image is.  At the k-th smallest of M
    held-out distances, ``p`` has the mean ``q = k / (M + 1)`` and the variance
    ``q (1 - q) / (M + 2)`` (a beta distribution), to which the images themselves add
    ``q (1 - q) / N``.  The share that follows from ``q`` and two standard errors is a lower bound;
    the largest one over some distances is what is returned, as by Meinshausen & Rice 2006.

    So it misses some of the copies, more if few images are held out, and is too large for one set
    in ten.  Simulated means, of 80 images:

    =====  ========  =========  =========
    M      no copy   10 %       30 %
    =====  ========  =========  =========
    16     0.8 %     3 %        21 %
    50     0.4 %     6 %        27 %
    250    0.2 %     8 %        29 %
    =====  ========  =========  =========

    Of one held-out image, no share follows.  Data with duplicates has held-out images at distance
    0, where copies do not show.

    Args:
        distances: of the images to their nearest training images, ``(N,)``.
        usual: the same of held-out images, ``(M,)``.

    Returns:
        The share, 0 .. 1.
    """
    usual, held_out = usual.sort().values, len(usual)
    shares = [0.0]
    for k in {max(1, round(quantile * (held_out + 1))) for quantile in _QUANTILES}:
        q = k / (held_out + 1)
        error = math.sqrt(q * (1 - q) * (1 / (held_out + 2) + 1 / len(distances)))
        chance = q + _STANDARD_ERRORS * error
        if chance < 1:
            closer = float((distances < usual[k - 1]).double().mean())
            shares.append((closer - chance) / (1 - chance))
    return max(shares)


def many_copies(held_out: int) -> float:
    """The share of copies, see ``share_of_copies``, beyond which a warning is due.

    Simulated sets without copies exceed it once in a hundred, with five held-out images twice.
    Sets of 30 % copies do with 50 held-out images always, with 16 in two of three cases, and with
    five in one of fifteen.

    Args:
        held_out: the number of held-out images that the share was found with.
    """
    return _MANY_COPIES + 1 / held_out
