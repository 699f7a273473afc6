"""``diffcli page``: write a model as one HTML file that draws in a browser."""

import json
from pathlib import Path
from typing import Annotated

from diffcli.commands.console import say
from diffcli.commands.options import (
    OUTPUT_PANEL,
    ForceOption,
    JsonOption,
    ModelOption,
    QuietOption,
    check_output,
    option,
    write_output,
)


def page(
    model: ModelOption = None,
    output: Annotated[Path, option("HTML file to write.", OUTPUT_PANEL, "--output", "-o")] = Path(
        "page.html"
    ),
    force: ForceOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write one HTML file in which a browser draws with a model, offline.

    The page draws step by step, adds noise to own pictures and removes it, and shows timesteps,
    noise schedules, and diffusion in two dimensions. It loads nothing from a network.
    """
    check_output(output, (".html", ".htm"))

    from diffcli.files.checkpoint import load_model
    from diffcli.files.locations import find_model, model_text, shipped_name
    from diffcli.page.build import build_page

    source = find_model(model)
    description, denoiser = load_model(source)
    content = build_page(description, denoiser, shipped_name(source))
    path = write_output(output, content, force, quiet)
    if not quiet:
        say(model_text(source))
        say(f"size: {len(content) / 1e6:.1f} MB; open it in a browser")
    if as_json:
        print(json.dumps({"model": str(source), "file": str(path), "bytes": len(content)}))
    else:
        print(path)
