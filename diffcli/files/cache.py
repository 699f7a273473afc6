"""Where things are kept that can be fetched or made again."""

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """``DIFFCLI_DATA_DIR`` if set, else the platform's cache folder; it may not exist yet."""
    chosen = os.environ.get("DIFFCLI_DATA_DIR")
    return Path(chosen) if chosen else user_cache_path("diffcli", appauthor=False)
