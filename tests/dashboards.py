"""
A dashboard on a free port of this machine, in a thread of the test, and ledgers for it to show.
"""

from __future__ import annotations

import http.client
import json
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

from journal import HAIKU, HOSTILE, NOVA, made_entry

from bedrock_guard import Budget, Guard, scope
from bedrock_guard.cli.reading import open_to_read
from bedrock_guard.dashboard import serving
from bedrock_guard.domain.entry import Attempt
from bedrock_guard.ledgers import open_ledger

# 1,000 output tokens at 0.24 USD a million, and 10 of input at 0.06: 240,600 nano-dollars.
CALL = {
    "modelId": NOVA,
    "messages": [{"role": "user", "content": [{"text": "hello"}]}],
    "inferenceConfig": {"maxTokens": 1000},
}
REPLY = {"usage": {"inputTokens": 10, "outputTokens": 1000, "totalTokens": 1010}, "stopReason": "end_turn"}
ZONE = "Europe/Berlin"
BUDGETS = {
    "day": Budget("day", "0.0005 USD/day"),
    "user": Budget("user", "0.0006 USD/month", per="user", on_exceed="warn"),
    "pace": Budget("pace", "500 requests/rolling 1 hour"),
    "team": Budget("team", "20 USD/month", per="team"),
}
SETTINGS = """
ledger = "{url}"
time_zone = "{zone}"
[budgets.day]
limit = "0.0005 USD/day"
[budgets.user]
limit = "0.0006 USD/month"
per = "user"
on_exceed = "warn"
[budgets.pace]
limit = "500 requests/rolling 1 hour"
[budgets.team]
limit = "20 USD/month"
per = "team"
"""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """
    A dashboard that answers.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """
        The answer to *path*, sent as it is written; of *headers*, `_` is a hyphen.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": f"127.0.0.1:{self.port}", **headers}.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            answer = connection.getresponse()
            return Answer(answer.status, answer.headers, answer.read())
        finally:
            connection.close()


@contextmanager
def served(
    ledger: str | None,
    config: str | None = None,
    *,
    token: str | None = None,
    names: Iterable[str] = (),
    host: str = "127.0.0.1",
) -> Iterator[Served]:
    """
    A dashboard of *ledger*, until the block ends; it lets in who may ask where it listens on *host*.
    """
    # Settings are looked for from the current folder upwards.
    with (
        tempfile.TemporaryDirectory() as folder,
        chdir(folder),
        open_to_read(ledger, config, has_budgets=True) as reading,
    ):
        listening = serving.open_socket("127.0.0.1", 0)
        door = serving.door_of(host, names, token)
        server = serving.make_server(reading, door, clock=time.time)
        thread = threading.Thread(target=serving.serve, args=(server, listening))
        thread.start()
        try:
            yield Served(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def write_settings(folder: Path, url: str) -> str:
    """
    A settings file that names the budgets of `spend_some`.
    """
    path = folder / "settings.toml"
    path.write_text(SETTINGS.format(url=url, zone=ZONE))
    return str(path)


@contextmanager
def spending(url: str, **settings: Any) -> Iterator[Guard]:
    """
    A program that has spent, holds and is refused some money, and that still runs.
    """
    with Guard(
        budgets=list(BUDGETS.values()), ledger=url, settings={"time_zone": ZONE, **settings}, sinks=[]
    ) as guard:
        with scope(user="ann", team="search"), guard.hold("Converse", CALL, region="us-east-1") as hold:
            hold.settle(REPLY)
        with scope(user="bob", team="ads"), guard.hold("Converse", CALL, region="us-east-1") as hold:
            yield guard
            hold.settle(REPLY)


def fill(url: str, count: int = 300, *, tags: Mapping[str, str] | None = None) -> None:
    """
    A journal of the last days: two models, caches that stop to work, refusals, a hostile user.
    """
    ledger, now = open_ledger(url, clock=time.time), time.time()
    for number in range(count):
        is_haiku, is_refused = number % 3 == 0, number % 37 == 5
        read = 4000 if number > count // 3 else 300
        usage = {"input_tokens": 1000, "output_tokens": 200, "cache_read_input_tokens": read * is_haiku}
        cost = (2_400_000 if is_haiku else 84_000) * (1 + number % 5)
        ledger.record(
            made_entry(
                f"e{number}",
                at_s=now - 120 - number * 86_400 * 2 / count,
                model=HAIKU if is_haiku else NOVA,
                model_id=f"us.{HAIKU if is_haiku else NOVA}",
                family="anthropic" if is_haiku else "nova",
                tags=tags or {"team": ("search", "ads", "batch")[number % 3], "user": f"u{number % 11}"},
                outcome="refused" if is_refused else "answered",
                budget="day" if is_refused else None,
                reason="budget" if is_refused else None,
                usage={} if is_refused else usage,
                reported_usage=None if is_refused else usage,
                cost_nanousd=0 if is_refused else cost,
                attempts=() if is_refused else (Attempt("answered", 200, None, usage, cost),),
            )
        )
    ledger.record(made_entry("hostile", at_s=now - 60, tags={"user": HOSTILE, MARKUP: MARKUP}, model=MARKUP))
    ledger.close()


MARKUP = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
