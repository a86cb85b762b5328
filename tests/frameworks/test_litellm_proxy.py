"""
LiteLLM's own proxy, in a process of its own, with the callback in its config.yaml and a loopback Bedrock behind it.

Without a database: who calls is told by `custom_auth`, as `UserAPIKeyAuth`, which is what a virtual key becomes.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.domain.entry import Entry
from bedrock_guard.testing.bedrock_server import BedrockServer, cut_stream, lost_answer, truncated_body

httpx = pytest.importorskip("httpx")
for _package in ("litellm", "fastapi"):
    pytest.importorskip(_package, reason="the group `frameworks` brings litellm[proxy]")

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NOVA = "amazon.nova-lite-v1:0"
RATES = {
    SONNET: {
        "input_tokens": "0.0000033",
        "output_tokens": "0.0000165",
        "cache_read_input_tokens": "0.00000033",
        "cache_write_5m_input_tokens": "0.000004125",
        "cache_write_1h_input_tokens": "0.0000066",
    },
    NOVA: {"input_tokens": "0.00000006", "output_tokens": "0.00000024"},
}
MODELS = {
    "converse": f"bedrock/converse/{SONNET}",
    "invoke": f"bedrock/invoke/{SONNET}",
    "nova": f"bedrock/converse/{NOVA}",
    "plain": f"bedrock/{NOVA}",
    "falls": f"bedrock/converse/{SONNET}",
    "voice": "bedrock/mistral.voxtral-mini-3b-2507",
}
SETTINGS = """
ledger = "sqlite:///{ledger}"

[tags]
env = "prod"

[budgets.team]
limit = "20 USD"
per = ["team"]
limits = {{ poor = "0.0001 USD", crowd = "0.01 USD", budgeted = "5 USD" }}

[breakers.cache]
condition = "cache_hit >= 0.5 after 1M total_input_tokens"
match = {{ team = "agents" }}
"""
ASK = {"max_tokens": 100, "messages": [{"role": "user", "content": "hello there"}]}
# A coding agent re-sends its context each turn: 150,000 tokens of the loopback server's.
TURN = {"max_tokens": 100, "messages": [{"role": "user", "content": "code " * 120_000}]}


@dataclass
class Proxy:
    """
    The proxy, the Bedrock behind it, and the ledger that it keeps.
    """

    url: str
    server: BedrockServer
    guard: Guard

    def ask(
        self, team: str, model: str = "converse", *, path: str = "/v1/chat/completions", **body: Any
    ) -> Any:
        headers = {"authorization": f"Bearer sk-{team}-alice"}
        asked = {"model": model, **ASK, **body}
        return httpx.post(self.url + path, json=asked, headers=headers, timeout=120, trust_env=False)

    def entries(self, team: str) -> list[Entry]:
        """
        The oldest first.
        """
        return list(self.guard.entries(tags={"team": team}))[::-1]

    def spent(self, team: str) -> tuple[int, int]:
        """
        What a team's balance says is spent, and pending, in nano-dollars.
        """
        row = next(row for row in self.guard.status() if dict(row.per).get("team") == team)
        return int(row.spent * 10**9), int(row.pending * 10**9)


def eventually(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 30
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_so()


def configure(folder: Path, endpoint: str, slow: str) -> None:
    common = {
        "aws_region_name": "us-east-1",
        "aws_access_key_id": "any",
        "aws_secret_access_key": "any",
        "aws_bedrock_runtime_endpoint": endpoint,
    }
    models = [
        {"model_name": name, "litellm_params": {"model": model, **common}} for name, model in MODELS.items()
    ]
    at_leisure = {"model": MODELS["converse"], **common, "aws_bedrock_runtime_endpoint": slow}
    models.append({"model_name": "slow", "litellm_params": at_leisure})
    config = {
        "model_list": models,
        "router_settings": {"num_retries": 2, "fallbacks": [{"falls": ["nova"]}]},
        "litellm_settings": {"callbacks": "bedrock_guard.litellm.guard_callback"},
        "general_settings": {
            "master_key": "sk-loopback-4f0e9d21c6b7a853",
            "custom_auth": "litellm_auth.who_calls",
        },
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # which is YAML, too
    shutil.copy(Path(__file__).with_name("litellm_auth.py"), folder)
    (folder / "guard.toml").write_text(SETTINGS.format(ledger=folder / "ledger.db"))


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "BEDROCK_GUARD_CONFIG": str(folder / "guard.toml"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-c", "from litellm import run_server; run_server()"]
    with (folder / "log.txt").open("wb") as log:
        return subprocess.Popen(
            [*command, "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/liveliness", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("proxy")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with BedrockServer(rates=RATES) as server, BedrockServer(event_delay_s=1) as slow:
        configure(folder, server.url, slow.url)
        process = start(folder, port)
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 240
            while not is_up(url):
                assert process.poll() is None, (folder / "log.txt").read_text()[-3000:]
                assert time.monotonic() < deadline, (folder / "log.txt").read_text()[-3000:]
                time.sleep(0.2)
            with Guard(settings=folder / "guard.toml") as guard:
                yield Proxy(url, server, guard)
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture
def proxy(running: Proxy) -> Proxy:
    running.server.reset()
    return running


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("model", ["converse", "invoke"])
def test_a_call_is_settled_at_what_bedrock_bills(
    model: str, path: str, is_stream: bool, proxy: Proxy
) -> None:
    """
    To the nano-dollar, and with who asked.
    """
    team = f"whole{model}{path.rpartition('/')[2]}{is_stream}"

    reply = proxy.ask(team, model, path=path, stream=is_stream)

    assert reply.status_code == 200, reply.text
    (entry,) = proxy.entries(team)
    assert (entry.outcome, entry.basis) == ("answered", "reported")
    assert proxy.spent(team) == (int(proxy.server.bill.usd * 10**9), 0)
    tags = {name: entry.tags[name] for name in ("key", "team", "team_id", "user")}
    assert tags == {"key": f"{team}'s key", "team": team, "team_id": f"id-{team}", "user": "alice"}


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_refusal_is_an_http_error_that_says_why_and_is_not_tried_again(
    is_stream: bool, proxy: Proxy
) -> None:
    """
    The router has two retries to spend, and spends none; nothing reaches Bedrock.
    """
    before = len(proxy.entries("poor"))

    reply = proxy.ask("poor", stream=is_stream)

    assert reply.status_code == 400
    assert reply.headers.get("x-litellm-attempted-retries", "0") == "0", dict(reply.headers)
    assert "team (0.0001 USD) [team=poor]: the call may cost up to" in reply.json()["error"]["message"]
    assert [entry.outcome for entry in proxy.entries("poor")[before:]] == ["refused"]
    assert proxy.server.requests == ()


def test_bedrock_s_own_api_through_the_proxy(proxy: Proxy) -> None:
    """
    What LiteLLM passes on as it is, is held for, too.
    """
    body = {"messages": [{"role": "user", "content": [{"text": "hello there"}]}]}

    reply = proxy.ask(
        "passing", path="/bedrock/model/plain/converse", **body, inferenceConfig={"maxTokens": 9}
    )

    assert reply.status_code == 200, reply.text
    assert [entry.outcome for entry in proxy.entries("passing")] == ["answered"]
    assert proxy.spent("passing") == (int(proxy.server.bill.usd * 10**9), 0)


def test_calls_that_nobody_asks_for_are_held_for(proxy: Proxy) -> None:
    """
    The proxy looks after its models with calls that bill; they have no tags.
    """
    headers = {"authorization": "Bearer sk-health-alice"}
    before = len(list(proxy.guard.entries()))

    httpx.get(f"{proxy.url}/health?model=converse", headers=headers, timeout=120, trust_env=False)

    new = list(proxy.guard.entries())
    entry = new[0]
    assert len(new) == before + len(proxy.server.requests) == before + 1
    assert (entry.outcome, entry.cost, entry.tags.get("team")) == ("answered", proxy.server.bill.usd, None)


def test_what_litellm_asks_past_every_transport_is_refused(proxy: Proxy) -> None:
    """
    It transcribes with a client of its own, in Rust.
    """
    headers = {"authorization": "Bearer sk-speaker-alice"}
    url, file = f"{proxy.url}/v1/audio/transcriptions", ("a.wav", b"RIFF")

    reply = httpx.post(url, files={"file": file}, data={"model": "voice"}, headers=headers, timeout=120)

    assert (reply.status_code, proxy.server.requests) == (400, ())
    assert "transcription of mistral.voxtral-mini-3b-2507 would bill" in reply.json()["error"]["message"]


def test_others_are_served_while_one_team_is_refused(proxy: Proxy) -> None:
    """
    A refusal that looked like a throttled model would take it out of turn for everybody.
    """
    statuses = [proxy.ask(team).status_code for team in ("poor", "poor", "poor", "poor", "rich")]

    assert statuses == [400, 400, 400, 400, 200]


def test_a_router_s_retries_are_requests_of_their_own(proxy: Proxy) -> None:
    """
    A throttled one is free, one whose answer was lost is charged at its estimate.
    """
    proxy.server.will_answer(429, lost_answer())

    assert proxy.ask("again").status_code == 200

    entries = proxy.entries("again")
    assert [entry.outcome for entry in entries] == ["rejected", "lost", "answered"]
    assert entries[1].cost == entries[1].estimated_cost
    spent, pending = proxy.spent("again")
    assert spent >= int(proxy.server.bill.usd * 10**9)
    assert pending == 0


def test_a_fallback_is_held_for_by_itself(proxy: Proxy) -> None:
    """
    Bedrock fails three times, and the other model answers, for the same team.
    """
    proxy.server.will_answer(503, 503, 503)

    assert proxy.ask("fallen", "falls").status_code == 200

    entries = proxy.entries("fallen")
    assert [entry.model_id for entry in entries] == [SONNET, SONNET, SONNET, NOVA]
    assert [entry.outcome for entry in entries] == ["rejected", "rejected", "rejected", "answered"]
    assert proxy.spent("fallen") == (int(proxy.server.bill.usd * 10**9), 0)


@pytest.mark.parametrize(
    ("team", "answer"), [("cut", cut_stream(after_events=2)), ("truncated", truncated_body())]
)
def test_a_stream_that_breaks_is_charged_at_its_estimate(team: str, answer: Any, proxy: Proxy) -> None:
    """
    AWS has billed all of it.
    """
    proxy.server.will_answer(answer)

    with suppress(httpx.TransportError):
        proxy.ask(team, stream=True)

    assert eventually(lambda: bool(proxy.entries(team)))
    entry = proxy.entries(team)[0]
    assert (entry.outcome, entry.basis, entry.cost) == ("lost", "estimated", entry.estimated_cost)
    assert entry.cost >= proxy.server.bill.usd > 0


def test_a_client_that_leaves_mid_stream_is_charged(proxy: Proxy) -> None:
    """
    The proxy cancels what serves it, and LiteLLM tells its callbacks nothing; Bedrock bills all of it.
    """
    body = {"model": "slow", "stream": True, **ASK}
    headers = {"authorization": "Bearer sk-leaver-alice"}
    url = f"{proxy.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=120, trust_env=False) as reply:
        next(reply.iter_raw(16))

    assert eventually(lambda: bool(proxy.entries("leaver")))
    (entry,) = proxy.entries("leaver")
    assert (entry.outcome, entry.basis, entry.cost) == ("lost", "estimated", entry.estimated_cost)
    assert proxy.spent("leaver")[1] == 0


def test_a_crowd_cannot_overspend(proxy: Proxy) -> None:
    """
    Forty at once share 0.01 USD, and the router's retries do not add up to more.
    """
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda _: proxy.ask("crowd").status_code, range(40)))

    assert set(statuses) == {200, 400}
    spent, pending = proxy.spent("crowd")
    assert spent == int(proxy.server.bill.usd * 10**9) <= 10_000_000
    assert pending == 0


def test_tags_of_a_request_do_not_hide_who_asks(proxy: Proxy) -> None:
    """
    A client says which feature it is for; that it is of another team, or its key another's, it says in vain.
    """
    said = ["feature:search", "team:rich", "model:free", "stage:free", "env:dev", "plain"]
    proxy.ask("honest", metadata={"tags": said}, user="dora")

    (entry,) = proxy.entries("honest")
    tags = {name: entry.tags[name] for name in ("feature", "team", "stage", "env", "end_user", "model")}
    assert tags == {
        "feature": "search",
        "team": "honest",
        "stage": "beta",
        "env": "prod",
        "end_user": "dora",
        "model": "anthropic.claude-sonnet-4-5-20250929-v1:0",
    }


def night(proxy: Proxy, team: str) -> tuple[int, str]:
    """
    A coding agent in a loop: its turns until it is stopped, and what it is told then.
    """
    for turn in count(1):
        reply = proxy.ask(team, **TURN)
        if reply.status_code != 200:
            return turn - 1, reply.json()["error"]["message"]
        assert turn < 50
    raise AssertionError


def test_the_incident_is_stopped_by_its_breaker(proxy: Proxy) -> None:
    """
    Uncached input in a loop, behind the proxy, all night: it ends after a million tokens.
    """
    turns, told = night(proxy, "agents")

    assert "prompt caching does nothing" in told
    assert turns == 7
    # 7 turns of 150,000 input tokens at 3.30 USD a million, and of 100 output tokens at 16.50.
    assert Decimal("3.46") < proxy.server.bill.usd < Decimal("3.49")
    assert proxy.spent("agents") == (int(proxy.server.bill.usd * 10**9), 0)


def test_the_incident_is_stopped_by_its_budget(proxy: Proxy) -> None:
    """
    Where nobody has thought of caches, the money runs out, and no more than that.
    """
    turns, told = night(proxy, "budgeted")

    assert "team (5 USD) [team=budgeted]" in told
    # The next could cost 3.96 USD: 600,000 bytes, which may be as many tokens, at the price of long prompts.
    assert turns == 3
    assert proxy.spent("budgeted") == (int(proxy.server.bill.usd * 10**9), 0)
    assert proxy.server.bill.usd <= 5
