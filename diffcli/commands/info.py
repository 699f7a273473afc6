"""``diffcli info``: show the metadata of a model or a picture."""

from pathlib import Path
from typing import Annotated

import typer

from diffcli.commands.options import JsonOption
from diffcli.errors import UsageError


def info(
    file: Annotated[
        Path,
        typer.Argument(
            help="Model (file, run's folder or name, mnist, mnist-2step), or picture drawn here."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show the metadata of a model or a picture."""
    from diffcli.files.inspection import flattened, inspect
    from diffcli.files.locations import RUNS_FOLDER, SHIPPED_MODELS, find_model

    is_run = file.is_dir() or (not file.exists() and (RUNS_FOLDER / file).is_dir())
    if is_run or str(file) in SHIPPED_MODELS:
        file = find_model(file)
    elif not file.exists():
        raise UsageError(
            f"there is no {file}: it must be a picture that diffcli drew, a model file, the folder "
            f"or the name of a run, or {' or '.join(SHIPPED_MODELS)}"
        )
    document = inspect(file)
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
