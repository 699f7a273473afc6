"""What a trained network learned of timesteps and labels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffcli.core.denoiser import Denoiser, finite
from diffcli.core.embedding import SinusoidalPositionEmbedding
from diffcli.core.unet import ConditionalUNet, ResidualBlock
from diffcli.figures.embedding_data import Embedding, LearnedEmbedding

_TIMESTEPS_OF_EFFECTS = 50


def embedding_of(denoiser: Denoiser) -> Embedding:
    """The sinusoidal embedding of a denoiser's network."""
    sinusoids = denoiser.network.time_embedding[0]
    assert isinstance(sinusoids, SinusoidalPositionEmbedding)
    return Embedding(sinusoids.dim, denoiser.schedule.num_timesteps, sinusoids.max_period)


@torch.inference_mode()
def learned_embedding(
    denoiser: Denoiser, class_names: Sequence[str], timesteps: Sequence[int]
) -> LearnedEmbedding:
    """The learned embeddings of timesteps and of all labels, "no label" being the last.

    Args:
        denoiser: a trained one, on the CPU.
        class_names: the names of its labels.
        timesteps: to embed.

    Raises:
        FloatingPointError: if one of these is not finite.
    """
    network, total = denoiser.network, denoiser.schedule.num_timesteps
    rows = network.time_embedding(torch.tensor(timesteps))
    effects = _label_effects(network, range(0, total, -(-total // _TIMESTEPS_OF_EFFECTS)))
    return LearnedEmbedding(
        finite(rows).numpy(),
        (*class_names, "no label"),
        finite(_cosines(network.label_embedding.weight)).numpy(),
        finite(_cosines(effects)).numpy(),
    )


def _label_effects(network: ConditionalUNet, timesteps: Sequence[int]) -> Tensor:
    """How each label changes the scales and shifts of the blocks, ``(labels, D)``.

    A block scales and shifts its features by a linear map of the embedding.  These are averaged
    over ``timesteps`` and concatenated over blocks; the mean over classes is subtracted.
    """
    blocks = [block for block in network.modules() if isinstance(block, ResidualBlock)]
    some = network.time_embedding(torch.tensor(timesteps))
    labels = network.label_embedding.weight
    embedding = nn.functional.silu(some[:, None] + labels).mean(dim=0)
    effects = torch.cat([block.modulation(embedding) for block in blocks], dim=1)
    return effects - effects[: network.no_label].mean(dim=0)


def _cosines(rows: Tensor) -> Tensor:
    """The cosine between each two rows: ``(N, D)`` to ``(N, N)``."""
    directions = nn.functional.normalize(rows, dim=1)
    return directions @ directions.T
