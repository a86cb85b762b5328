"""
The server: where it listens, what it says of that, and how it ends.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import cache, partial
from typing import Final
from urllib.parse import urlencode

import uvicorn

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.cli.reading import Reading, entry_prices
from bedrock_guard.dashboard.app import make_app
from bedrock_guard.dashboard.desk import Desk
from bedrock_guard.dashboard.gate import LOOPBACK, TOKEN, Door
from bedrock_guard.dashboard.live import Hub
from bedrock_guard.dashboard.sums import Sums
from bedrock_guard.domain.ledger import Clock
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.pricing.price_list import PriceList

# More at once than a room full of people needs; each browser has up to six.
_MOST_REQUESTS: Final = 128
_ENDING_S: Final = 3


def open_socket(host: str, port: int) -> socket.socket:
    """
    A socket that listens on *host*; on a free port for 0.

    Raises:
        ConfigurationError: It cannot be opened.
    """
    try:
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        return socket.create_server(where[:2], family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigurationError(
            f"Nothing can listen on {host}, port {port}: {error}. --port 0 takes a port that is free."
        ) from error


def door_of(host: str, names: Iterable[str], token: str | None) -> Door:
    """
    Who is let in where the server listens on *host*; *names* are those it has besides.
    """
    own = {host, *names, *LOOPBACK, *([] if is_loopback(host) else [socket.gethostname()])}
    return Door(frozenset(name.lower() for name in own), not is_loopback(host), token)


def is_loopback(host: str) -> bool:
    """
    Whether only this machine can reach *host*.
    """
    return host.lower() in LOOPBACK


def link_of(listening: socket.socket, host: str, token: str | None) -> str:
    """
    The address to open, with the token that it needs.
    """
    port = listening.getsockname()[1]
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what is typed
    name = everywhere.get(host, host)
    query = f"?{urlencode({TOKEN: token})}" if token else ""
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/{query}"


def make_server(reading: Reading, door: Door, *, clock: Clock) -> uvicorn.Server:
    """
    A server that is ready to run on a socket; a signal, or `should_exit`, ends it.
    """
    PriceList.installed()  # now, so that no request waits for it
    desk = Desk(
        reading=reading,
        matcher=Matcher(reading.resolved.budgets, reading.resolved.settings),
        clock=clock,
        sums=Sums(reading.ledger, clock=clock),
        hub=Hub(reading.ledger, clock=clock),
        entry_prices=cache(partial(entry_prices, reading)),
    )
    servers: list[uvicorn.Server] = []
    app = make_app(desk, door, is_stopping=lambda: servers[0].should_exit)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,  # an address may hold the token
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_REQUESTS,
        timeout_graceful_shutdown=_ENDING_S,
    )
    servers.append(uvicorn.Server(config))
    return servers[0]


def serve(server: uvicorn.Server, listening: socket.socket) -> None:
    """
    Answer until Ctrl-C.
    """
    with suppress(KeyboardInterrupt), listening:
        server.run(sockets=[listening])
