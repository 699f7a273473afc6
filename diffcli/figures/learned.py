"""Asking a trained network what it made of timesteps and labels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffcli.core.denoiser import Denoiser
from diffcli.core.embedding import SinusoidalPositionEmbedding
from diffcli.core.unet import ConditionalUNet, ResidualBlock
from diffcli.figures.embedding import Embedding, LearnedEmbedding

_TIMESTEPS_OF_EFFECTS = 50


def embedding_of(denoiser: Denoiser) -> Embedding:
    """The sinusoidal embedding that a network starts from."""
    sinusoids = denoiser.network.time_embedding[0]
    assert isinstance(sinusoids, SinusoidalPositionEmbedding)
    return Embedding(sinusoids.dim, denoiser.schedule.num_timesteps, sinusoids.max_period)


@torch.inference_mode()
def learned_embedding(
    network: ConditionalUNet, class_names: Sequence[str], timesteps: Sequence[int]
) -> LearnedEmbedding:
    """The network's own embeddings of timesteps and of all labels, "no label" being the last.

    Args:
        network: a trained one, on the CPU.
        class_names: what its labels mean.
        timesteps: those to embed.
    """
    rows = network.time_embedding(torch.tensor(timesteps))
    return LearnedEmbedding(
        timesteps,
        rows.tolist(),
        _cosines(rows).tolist(),
        (*class_names, "no label"),
        _cosines(network.label_embedding.weight).tolist(),
        _cosines(_label_effects(network, rows)).tolist(),
    )


def _label_effects(network: ConditionalUNet, rows: Tensor) -> Tensor:
    """What each label, apart from what all have in common, does to the blocks; ``(labels, D)``.

    A block scales and shifts its features by a linear map of the embedding.  These are
    averaged over timesteps, of all blocks together.
    """
    blocks = [block for block in network.modules() if isinstance(block, ResidualBlock)]
    some = rows[:: -(-len(rows) // _TIMESTEPS_OF_EFFECTS)]
    labels = network.label_embedding.weight
    embedding = nn.functional.silu(some[:, None] + labels).mean(dim=0)
    effects = torch.cat([block.modulation(embedding) for block in blocks], dim=1)
    return effects - effects[: network.no_label].mean(dim=0)


def _cosines(rows: Tensor) -> Tensor:
    """``(N, D)`` to ``(N, N)``."""
    directions = nn.functional.normalize(rows, dim=1)
    return directions @ directions.T
