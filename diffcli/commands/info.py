"""``diffcli info``: what a model or a picture says of itself."""

from pathlib import Path
from typing import Annotated

import typer


def info(
    file: Annotated[
        Path,
        typer.Argument(
            help="A model (.safetensors), a run's folder, or a picture that diffcli drew."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, not a table.")] = False,
) -> None:
    """Show everything that is written in a model or a picture."""
    from diffcli.files.inspection import flattened, inspect
    from diffcli.files.models import find_model

    document = inspect(find_model(file) if file.is_dir() else file)
    if as_json:
        import json

        print(json.dumps(document, indent=2))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for part in ({k: v for k, v in document.items() if k != "metadata"}, document["metadata"]):
        for name, value in flattened(part):
            table.add_row(Text(name, style="bold"), Text(value))
        table.add_row()
    Console(highlight=False).print(table)
