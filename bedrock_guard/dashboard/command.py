"""
`bedrock-guard dashboard`: a ledger in a browser.

Exit codes: 0 Ctrl-C, 1 the ledger cannot be used, 2 bad input, or the extra is not installed.
"""

from __future__ import annotations

import secrets
import time
import webbrowser
from typing import Annotated, Final

import typer

from bedrock_guard.cli.reading import BAD_INPUT, Config, LedgerUrl, fail, open_to_read

_PACKAGES: Final = ("starlette", "uvicorn", "jinja2", "markupsafe", "anyio")
_TOKEN_BYTES: Final = 24
_LEAST_TOKEN: Final = 16
_PORT: Final = 8765


def dashboard(
    *,
    host: Annotated[
        str,
        typer.Option(
            help="Where to listen; on another address than your machine's own a token is asked for."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free.")] = _PORT,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="BEDROCK_GUARD_DASHBOARD_TOKEN",
            help="What every request must show. Default: a new one, where one is asked for.",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name by which browsers may ask, too; then a token is asked for. Repeat it.",
            metavar="NAME",
        ),
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open", help="Open it in your browser.")] = False,
    ledger: LedgerUrl = None,
    config: Config = None,
) -> None:
    """
    Show the ledger in a browser: balances, spend and caches over time, calls as they end, every entry.

    It only reads. Ctrl-C ends it.
    """
    try:
        from bedrock_guard.dashboard import serving  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _PACKAGES:
            raise
        fail("The dashboard is an extra: pip install 'bedrock-guard[dashboard]'", BAD_INPUT)
    if token is not None and (len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        fail(
            f"--token is too weak: {_LEAST_TOKEN} ASCII characters at least. Without it, one is made.",
            BAD_INPUT,
        )
    if token is None and (allow_host or not serving.is_loopback(host)):
        token = secrets.token_urlsafe(_TOKEN_BYTES)
    strange = next((name for name in allow_host or () if not name or set(name) & set("/:[]@ ")), None)
    if strange is not None:
        fail(f"--allow-host {strange!r} is no name of a host alone; write guard.example.", BAD_INPUT)
    with open_to_read(ledger, config, has_budgets=True) as reading:
        listening = serving.open_socket(host, port)
        link = serving.link_of(listening, host, token)
        server = serving.make_server(reading, serving.door_of(host, allow_host or (), token), clock=time.time)
        typer.echo(f"{reading.url}: {link}")
        if token is not None:
            typer.echo("Who opens this link may see everything, so show it to nobody else.", err=True)
        typer.echo("Ctrl-C ends it.", err=True)
        if open_browser:
            webbrowser.open(link)
        serving.serve(server, listening)
