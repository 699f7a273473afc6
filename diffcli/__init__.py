"""Train, sample and inspect class-conditional diffusion models of small images.

In three lines::

    import diffcli
    model = diffcli.load()
    digits = model.sample("3", n=16, seed=42)  # uint8 (16, 1, 28, 28)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffcli.sampling.model import Model, load

__version__ = "0.2.0.dev0"
__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> object:
    # On first use, so that the command line does not wait for torch to show its help.
    if name in ("Model", "load"):
        from diffcli.sampling import model  # noqa: PLC0415 - loads torch, which takes seconds

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
