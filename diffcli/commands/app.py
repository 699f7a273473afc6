"""The command line: its commands, and how errors are shown."""

import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from diffcli import __version__
from diffcli.commands.distill import distill
from diffcli.commands.evaluate import evaluate
from diffcli.commands.info import info
from diffcli.commands.inspect_embedding import inspect_embedding
from diffcli.commands.noise_demo import noise_demo
from diffcli.commands.options import ADVICE, option
from diffcli.commands.page import page
from diffcli.commands.sample import sample
from diffcli.commands.score import score
from diffcli.commands.train import train
from diffcli.commands.tune import tune
from diffcli.commands.watch import watch
from diffcli.errors import DiffcliError, printable, reason_of
from diffcli.threads import THREADS

# What writing to a pipe fails with if its reader has gone; on Windows it is an invalid argument.
_CLOSED_PIPE = (errno.EPIPE, errno.EINVAL) if os.name == "nt" else (errno.EPIPE,)

# What torch says, depending on device and system; only on a GPU it has an error of its own, and
# to import torch for that would delay all commands.
_LACK_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


class OneLineErrors(TyperGroup):
    """A group of commands whose known errors are one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; errors of options, of weights and of memory get advice."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise typer.Abort from error
        except DiffcliError as error:
            advice = ADVICE.get(error.argument or "")
            if advice is None or error.argument not in self._options(ctx):
                raise
            raise type(error)(f"{error}; {advice}") from error
        except FloatingPointError as error:
            raise DiffcliError(f"{error}; {ADVICE['model']}") from error
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not any(
                words in str(error) for words in _LACK_OF_MEMORY
            ):
                raise
            advice = "close other programs, or ask for fewer or smaller pictures at once"
            if "batch_size" in self._options(ctx):
                advice = "choose a smaller --batch-size or --width"
            raise DiffcliError(f"there is not enough memory; {advice}") from error

    def _options(self, ctx: Any) -> set[str | None]:
        """The names in Python of the options of a command, without its arguments."""
        command = self.commands.get(ctx.invoked_subcommand or "")
        params = command.params if command else []
        return {param.name for param in params if param.opts[0].startswith("-")}

    def main(self, args: Sequence[str] | None = None, *_: Any, **options: Any) -> Any:
        """Run the program and end the process with its exit code."""
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by a shell: diffcli ... >&-
                place = Path(os.devnull)
                nowhere = place.open("w", encoding="utf-8")
                setattr(sys, name, nowhere)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # As stderr does: a name that the terminal's encoding lacks is no failure.
            sys.stdout.reconfigure(errors="backslashreplace")
        # Pillow warns of large pictures; those that are too large are errors of their own.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            code = super().main(args, **{**options, "standalone_mode": False})
            sys.stdout.flush()  # here, where a closed pipe can still be handled
        except (DiffcliError, typer.TyperException) as error:
            message = str(error)
            if isinstance(error, typer.TyperException):
                message = " ".join(error.format_message().split())
            _fail(message, error.exit_code, error)
        except typer.Abort as error:
            _fail("interrupted", 130, error)
        except UnicodeEncodeError as error:  # a name that a file cannot get
            lacking = error.object[error.start : error.end]
            _fail(
                f"the file names of this system, in {error.encoding}, cannot have {lacking!r}; set "
                "LC_ALL=C.UTF-8, or name the files by numbers: -o '{index}.png'",
                1,
                error,
            )
        except OSError as error:
            if error.errno in _CLOSED_PIPE and error.filename is None:
                # The reader of stdout has gone; flushing at exit must not fail again.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                sys.exit(1)
            _fail(reason_of(error), 1, error)
        sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int, error: BaseException) -> None:
    if os.environ.get("DIFFCLI_DEBUG") == "1":
        raise error
    print(f"diffcli: {printable(message)}", file=sys.stderr)
    sys.exit(code)


app = typer.Typer(
    cls=OneLineErrors,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"diffcli {__version__}")
        raise typer.Exit


@app.callback()
def diffcli(
    context: typer.Context,
    _version: Annotated[
        bool,
        option(
            "Show the version and exit.", None, "--version", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Train, sample and inspect class-conditional diffusion models of small images."""
    if context.invoked_subcommand is None:
        print(context.get_help())
    THREADS.observe()


app.command()(train)
app.command()(distill)
app.command()(tune)
app.command()(sample)
app.command()(watch)
app.command()(info)
app.command()(evaluate)
app.command()(score)
app.command()(page)
app.command()(inspect_embedding)
app.command()(noise_demo)
