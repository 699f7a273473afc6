"""Finding the device that ``--device`` names."""

from typing import TYPE_CHECKING

from diffcli.errors import UsageError

if TYPE_CHECKING:
    import torch


def find_device(name: str) -> "torch.device":
    """``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps`` as a device that is present.

    Raises:
        UsageError: if there is no such device here.
    """
    import torch

    present = ["cpu"]
    if torch.cuda.is_available():
        present = [f"cuda:{index}" for index in range(torch.cuda.device_count())] + present
    if torch.backends.mps.is_available():
        present = ["mps", *present]
    if name == "auto":
        return torch.device(present[0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in present:
        raise UsageError(
            f"--device {name} is not here; this computer has: {', '.join(present)} (or auto)"
        )
    return torch.device(wanted)
