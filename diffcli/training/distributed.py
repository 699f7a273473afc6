"""One run on several processes: gradients are summed, all else is the same in each process."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist


@dataclass(frozen=True)
class Distributed:
    """The processes that share a run: this one has number ``rank`` of ``size``."""

    rank: int = 0
    size: int = 1

    @property
    def is_leader(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def part(self, batch: Tensor) -> Tensor:
        """This process's part of a batch ``(B, ...)``."""
        return batch[self.rank :: self.size]

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        pieces = flat.split([tensor.numel() for tensor in tensors])
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.copy_(piece.view(tensor.shape))

    def from_leader(self, *values: float) -> tuple[float, ...]:
        """The numbers of the leader, so that all processes decide alike."""
        if self.size == 1:
            return values
        # On the CPU, so that no process waits for its GPU.
        shared = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(shared, src=0)
        return tuple(shared.tolist())

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """A block that the leader leaves before the other processes enter it."""
        if not self.is_leader:
            self.from_leader(0.0)
        try:
            yield
        finally:
            if self.is_leader:
                self.from_leader(0.0)


@contextmanager
def join_processes() -> Iterator[Distributed]:
    """Join the processes that torchrun started; without torchrun there is only this one."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        yield Distributed()
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield Distributed(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
