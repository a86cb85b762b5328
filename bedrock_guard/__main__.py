"""
`python -m bedrock_guard`, and the `bedrock-guard` command.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper


def main() -> None:
    """
    Run the command line, or say how to install it.
    """
    try:
        from bedrock_guard.cli import app  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit("The command line is an extra: pip install 'bedrock-guard[cli]'")
    _spell_out(sys.stdout)
    app()


def _spell_out(stream: object) -> None:
    """
    What an encoding lacks is escaped: a tag in another script must not end a report half-way.
    """
    if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
        stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
