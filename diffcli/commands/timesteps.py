"""What ``--t`` may say."""

from collections.abc import Sequence

from diffcli.errors import UsageError


def parse_timesteps(wanted: Sequence[str], num_timesteps: int) -> list[int]:
    """Timesteps for ``150`` or ``0,50,150``, in the order asked for, each once.

    Raises:
        UsageError: for what is no timestep of ``0 .. num_timesteps - 1``.
    """
    timesteps: dict[int, None] = {}
    for item in [part.strip() for text in wanted for part in text.split(",")]:
        if not (item.isascii() and item.isdigit() and len(item) < 10):
            raise UsageError(f"--t {item!r} is no timestep; write it like 150 or 0,50,150")
        if int(item) >= num_timesteps:
            raise UsageError(
                f"--t {item} is outside 0 .. {num_timesteps - 1}, as T is {num_timesteps} here"
            )
        timesteps[int(item)] = None
    return list(timesteps)
