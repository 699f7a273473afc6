"""Seeds that are derived from that of a run, and the order of its images."""

import hashlib
from functools import lru_cache

import torch
from torch import Tensor


def derived_seed(*parts: object) -> int:
    """A 32-bit seed that is a function of ``parts`` (the CPU generator uses no more bits)."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "little")


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(derived_seed(seed, "order", epoch))
    return torch.randperm(count, generator=generator)


def batch_index(seed: int, start: int, batch_size: int, count: int) -> Tensor:
    """The indices of a batch, int64 ``(batch_size,)``.

    The data set is repeated without end, in a new order in each epoch; batches are consecutive
    pieces of that, across the ends of epochs.

    Args:
        seed: of the orders.
        start: number of images before this batch.
        batch_size: number of images.
        count: number of images in the data set.
    """
    parts = []
    position, end = start, start + batch_size
    while position < end:
        epoch, offset = divmod(position, count)
        piece = _epoch_order(seed, epoch, count)[offset : offset + end - position]
        parts.append(piece)
        position += len(piece)
    return torch.cat(parts)
