"""The Frechet distance between two sets of features, each approximated by a Gaussian."""

from typing import NamedTuple

import torch
from torch import Tensor

from diffcli.evaluation.network import check_count


class Gaussian(NamedTuple):
    """A mean, float64 ``(D,)``, and a covariance, float64 ``(D, D)``."""

    mean: Tensor
    covariance: Tensor


def fit_gaussian(features: Tensor) -> Gaussian:
    """The mean and the unbiased covariance of features ``(N, D)``.

    Raises:
        DiffcliError: if there are too few for the covariance to have full rank, N <= D.
    """
    count, dimension = features.shape
    check_count(count, dimension, "images")
    values = features.double()
    mean = values.mean(dim=0)
    centred = values - mean
    return Gaussian(mean, centred.T @ centred / (count - 1))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """The squared Frechet distance of two Gaussians.

    Source: Dowson & Landau 1982::

        |mu_a - mu_b|^2 + tr(A + B - 2 (A B)^(1/2))

    which Heusel et al. 2017 (eq. 6) report as FID.  ``(A B)^(1/2)`` has the trace of
    ``(A^(1/2) B A^(1/2))^(1/2)``, whose argument is symmetric and positive semi-definite: its
    eigenvalues are real, and singular covariances need no offset.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = torch.linalg.eigvalsh(root @ b.covariance @ root)
    shift = (a.mean - b.mean).square().sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * product.clamp(min=0).sqrt().sum()
    return max(0.0, float(shift + spread))
