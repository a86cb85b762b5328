"""
`python -m bedrock_guard`, and the `bedrock-guard` command.
"""

from __future__ import annotations

import sys


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
    app()


if __name__ == "__main__":
    main()
