"""
Ways that an adversary found past, into or out of a hold; each stays closed.
"""

from __future__ import annotations

import contextvars
import gc
import json
import os
import sys
import threading
import weakref
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from botocore_versions import needs_newer_model

from bedrock_guard import BudgetExceeded, Guard, scope, unguard
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.testing.bedrock_server import BedrockServer, converse_reply, slow_answer

from .conftest import HELLO, SONNET, Guarded, eventually


def more_tokens(body: bytes) -> bytes:
    document = json.loads(body)
    document["inferenceConfig"]["maxTokens"] = 64_000
    return json.dumps(document).encode()


def change_data(request: Any, **_: Any) -> None:
    request.data = more_tokens(request.data)


def change_dict(params: dict[str, Any], **_: Any) -> None:
    params["body"] = more_tokens(params["body"])


@pytest.mark.parametrize(
    ("event", "register", "change"),
    [
        ("before-sign.bedrock-runtime", "register_last", change_data),
        ("request-created.bedrock-runtime.Converse", "register_last", change_data),
        ("before-call.*.*", "register_first", change_dict),
        ("before-call.*.Converse", "register_first", change_dict),
        ("before-call.bedrock-runtime.Converse", "register_first", change_dict),
        ("before-call", "register_last", change_dict),
    ],
)
@pytest.mark.parametrize("is_before", [True, False])
def test_no_handler_can_enlarge_a_request_unseen(
    make_client: Callable[..., Any],
    server: BedrockServer,
    event: str,
    register: str,
    change: Callable[..., None],
    is_before: bool,
) -> None:
    """
    Whoever changes it, before our look or after: what leaves is what was held for.
    """
    client, guard = make_client(), Guard(budget="0.5 USD", ledger="memory://")
    if is_before:
        getattr(client.meta.events, register)(event, change)
    guard.attach(client)
    if not is_before:
        getattr(client.meta.events, register)(event, change)

    with pytest.raises(BudgetExceeded) as caught:
        client.converse(**HELLO)

    assert server.requests == ()
    assert guard.status()[0].pending == 0
    # The figures are those of the whole call: 64,000 x 16.50 USD a million, beside nothing pending.
    assert caught.value.requested > Decimal("1.056")
    assert caught.value.pending == 0


def test_an_answer_that_is_sent_again_was_billed(guarded: Guarded) -> None:
    """
    A tool's own retry handler may send a good answer again; nobody sees the first, and AWS bills both.
    """
    again = iter([0.0, None])
    guarded.client.meta.events.register_first(
        "needs-retry.bedrock-runtime.Converse", lambda **_: next(again, None)
    )

    guarded.client.converse(**HELLO)

    assert guarded.server.bill.requests == 2
    assert [attempt.outcome for attempt in guarded.entry.attempts] == ["lost", "answered"]
    assert guarded.spent_nanousd >= guarded.server.bill.nanousd


class InterruptedLedger(MemoryLedger):
    """
    A real ledger, in which Ctrl-C comes at a moment of the test's choosing.
    """

    moment = ""

    def interrupt(self, moment: str) -> None:
        if self.moment == moment:
            self.moment = ""
            raise KeyboardInterrupt

    def reserve(self, *args: Any, **kwargs: Any) -> Any:
        held = super().reserve(*args, **kwargs)
        self.interrupt("held")
        return held

    def settle(self, *args: Any) -> Any:
        self.interrupt("settling")
        settled = super().settle(*args)
        self.interrupt("settled")
        return settled


@pytest.mark.parametrize("moment", ["held", "settling", "settled"])
def test_ctrl_c_leaves_nothing_held(make_guarded: Callable[..., Guarded], moment: str) -> None:
    """
    Whatever was under way is ended in the background, once.
    """
    ledger = InterruptedLedger(clock=lambda: 1_800_000_000.0)
    guarded = make_guarded(ledger=ledger)
    ledger.moment = moment

    with pytest.raises(KeyboardInterrupt):
        guarded.client.converse(**HELLO)
    guarded.client.converse(**HELLO)

    assert eventually(lambda: guarded.pending == [0])
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_end_its_parents_stream(
    make_guarded: Callable[..., Guarded], tmp_path: Path
) -> None:
    """
    Pre-forking servers copy whatever is open; the child's exit must not settle it.
    """
    guarded = make_guarded(ledger=f"sqlite:///{tmp_path / 'ledger.db'}")
    stream = guarded.client.converse_stream(**HELLO)["stream"]

    child = os.fork()
    if not child:
        del stream
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)

    assert guarded.pending[0] > 0
    assert len(list(stream)) > 30
    assert (guarded.entry.outcome, guarded.entry.basis) == ("answered", "reported")


def test_the_same_budgets_on_the_same_ledger_count_a_call_once(
    make_client: Callable[..., Any], server: BedrockServer, tmp_path: Path
) -> None:
    """
    A notebook cell that runs twice must not double the bill.
    """
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
    guards = [Guard(budget="5 USD", ledger=ledger) for _ in range(3)]
    client = make_client()
    for each in guards:
        each.attach(client)

    client.converse(**HELLO)

    assert len(list(guards[0].entries())) == 1
    assert guards[0].status()[0].spent * 10**9 == server.bill.nanousd
    for each in guards:
        each.close()


def test_guards_that_attach_at_once_are_all_there(make_client: Callable[..., Any]) -> None:
    """
    A guard that attached without an error and sees no call is the incident again.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(5):
            client = make_client()
            guards = [Guard(budgets=[f"b{number}: 5 USD"], ledger="memory://") for number in range(4)]
            threads = [threading.Thread(target=guard.attach, args=(client,)) for guard in guards]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            client.converse(**HELLO)
            assert [len(list(guard.entries())) for guard in guards] == [1, 1, 1, 1]
            bare = type(unguard(client))
            assert not hasattr(bare, "_is_bedrock_guard")
    finally:
        sys.setswitchinterval(interval)


def test_a_hold_that_expired_under_way_is_told_as_such(make_guarded: Callable[..., Guarded]) -> None:
    """
    A suspended process finds its hold swept: the retry is not sent, and the error says why.
    """
    now = [1_800_000_000.0]
    guarded = make_guarded(hold_s=1, clock=lambda: now[0], config={"read_timeout": 0.2})
    guarded.server.always(slow_answer(0.5))

    def time_passes(**_: Any) -> None:
        now[0] += 2
        guarded.guard.sweep()

    guarded.client.meta.events.register("needs-retry.bedrock-runtime.Converse", time_passes)

    with pytest.raises(LedgerUnavailable, match="expired while it was under way") as caught:
        guarded.client.converse(**HELLO)

    assert type(caught.value.__cause__).__name__ == "ReadTimeoutError"
    assert guarded.pending == [0]


@needs_newer_model
def test_advice_holds_where_the_dearer_tier_was_held(make_guarded: Callable[..., Guarded]) -> None:
    """
    Flex is held at the default price, so what would fit goes by that, too.
    """
    guarded = make_guarded("0.002 USD")
    asked: dict[str, Any] = {
        **HELLO,
        "modelId": "us.amazon.nova-2-lite-v1:0",
        "serviceTier": {"type": "flex"},
        "inferenceConfig": {"maxTokens": 30_000},
    }
    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**asked)

    fits = int(str(caught.value).rpartition("maxTokens<=")[2].split()[0])
    guarded.client.converse(**{**asked, "inferenceConfig": {"maxTokens": fits}})


def test_advice_minds_every_budget_that_refused(make_guarded: Callable[..., Guarded]) -> None:
    """
    What fits the dollars may not fit the tokens.
    """
    guarded = make_guarded(budgets=["usd: 0.5 USD", "tokens: 10K tokens"])
    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**{**HELLO, "inferenceConfig": {"maxTokens": 64_000}})

    fits = int(str(caught.value).rpartition("maxTokens<=")[2].split()[0])
    guarded.client.converse(**{**HELLO, "inferenceConfig": {"maxTokens": fits}})


def test_a_call_under_way_when_its_guard_is_taken_off_still_settles(guarded: Guarded) -> None:
    """
    Taking a guard off must not turn a reply into an estimate.
    """
    guarded.client.meta.events.register(
        "before-send.bedrock-runtime.Converse", lambda **_: unguard(guarded.client) and None
    )

    guarded.client.converse(**HELLO)

    assert (guarded.entry.outcome, guarded.entry.basis) == ("answered", "reported")
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


class Text(str):
    """
    Text that can be watched.
    """


def test_no_prompt_outlives_its_call(guarded: Guarded) -> None:
    """
    An agent's contexts are megabytes; they must go when the call is over, without the collector.
    """
    gc.collect()
    gc.disable()
    try:
        prompt = Text("hello there")
        alive = weakref.ref(prompt)
        stream = guarded.client.converse_stream(
            modelId=SONNET, messages=[{"role": "user", "content": [{"text": prompt}]}]
        )["stream"]
        del prompt
        assert alive() is None
        assert len(list(stream)) > 30
    finally:
        gc.enable()


def test_a_scope_may_end_in_another_context() -> None:
    """
    Starlette runs each step of a sync generator in a copy of the context.
    """

    def stream() -> Any:
        with scope(team="search"):
            yield 1

    steps = stream()
    contextvars.copy_context().run(next, steps)
    contextvars.copy_context().run(steps.close)


def test_a_gateway_in_front_keeps_the_model_id(
    make_client: Callable[..., Any], server: BedrockServer
) -> None:
    """
    An endpoint URL may have a path of its own.
    """
    import boto3

    client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=f"{server.url}/gateway")
    guard = Guard(budget="0.5 USD", ledger="memory://")
    guard.attach(client).meta.events.register_last("before-call", change_dict)

    with pytest.raises(BudgetExceeded, match="maxTokens=64000"):
        client.converse(**HELLO)


def test_a_sweep_that_fails_refuses_nobody(
    make_guarded: Callable[..., Guarded], caplog: pytest.LogCaptureFixture
) -> None:
    """
    House-keeping is no reason to turn a call away.
    """
    now = [1_800_000_000.0]

    class Unswept(MemoryLedger):
        def sweep(self, **_: Any) -> Any:
            raise LedgerUnavailable("the broom is gone")

    guarded = make_guarded(ledger=Unswept(clock=lambda: now[0]), clock=lambda: now[0])
    now[0] += 61

    guarded.client.converse(**HELLO)

    assert "the broom is gone" in caplog.text


def test_usage_that_cannot_be_is_charged_at_the_estimate(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A broken counter must neither be believed nor block the ledger for ever.
    """
    guarded.server.will_answer(converse_reply(input_tokens=10**17, output_tokens=1))

    guarded.client.converse(**HELLO)

    assert guarded.entry.cost == guarded.entry.estimated_cost
    assert guarded.pending == [0]
    assert "usage that cannot be" in caplog.text
