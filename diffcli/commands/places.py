"""Where a command writes: into a folder that exists, and not over what is there already."""

import sys
from pathlib import Path

from diffcli.errors import UsageError


def check_place(path: Path) -> None:
    """Refuse the path of a file that could not be written, before there is work to lose.

    Raises:
        UsageError: if its folder does not exist, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist; create it or change -o")
    if path.is_dir():
        raise UsageError(f"-o {path} is a folder; name a file in it")


def free_place(wanted: Path, overwrite: bool) -> Path:
    """``wanted``, or a free name like it if that is taken, which is said."""
    from diffcli.files.naming import unused_path

    place = wanted if overwrite else unused_path(wanted)
    if place != wanted:
        print(
            f"{wanted} exists and stays; writing {place} (--force overwrites)",
            file=sys.stderr,
            flush=True,
        )
    return place
