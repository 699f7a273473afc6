"""``python -m diffcli``, and the ``diffcli`` command."""

from diffcli.commands.app import app


def main() -> None:
    """Run the command line."""
    app(prog_name="diffcli")


if __name__ == "__main__":
    main()
