"""
A call that does not fit is sent with a limit that does: over real sockets, on the books, and never above
what was asked for.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from bedrock_guard import Budget, BudgetExceeded, Guard, scope
from bedrock_guard.domain.alert import Alert
from bedrock_guard.errors import LedgerUnavailable, Stopped
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.testing.bedrock_server import BedrockServer, converse_reply, lost_answer

from .conftest import NOVA, SONNET, Guarded

# 97 bytes of text, a role of 4, and the template: so many tokens are held for it, at 3.30 USD a million.
TEXT = "hello there " * 8 + "!"
INPUT_TOKENS = 97 + 4 + 16 + 64
INPUT_NANOUSD = INPUT_TOKENS * 3_300
OUTPUT_NANOUSD = 16_500
UNSET: dict[str, Any] = {"modelId": SONNET, "messages": [{"role": "user", "content": [{"text": TEXT}]}]}


def asking(max_tokens: int) -> dict[str, Any]:
    return {**UNSET, "inferenceConfig": {"maxTokens": max_tokens}}


def sent(server: BedrockServer) -> Any:
    return json.loads(server.requests[-1].body)


def told(reply: Any) -> Any:
    return reply["ResponseMetadata"]["BedrockGuard"]


MakeGuarded = Callable[..., Guarded]


def test_a_call_without_a_limit_is_held_at_a_share_of_what_is_free(make_guarded: MakeGuarded) -> None:
    """
    Sonnet may write 64,000 tokens, 1.056 USD: one such call would hold the whole of a dollar.
    """
    guarded = make_guarded("1 USD")
    params = {**UNSET}

    reply = guarded.client.converse(**params)

    fits = (1_000_000_000 - INPUT_NANOUSD) // 4 // OUTPUT_NANOUSD
    assert told(reply)["ClampedMaxTokens"] == fits == 15_142
    assert sent(guarded.server)["inferenceConfig"] == {"maxTokens": fits}
    assert guarded.entry.clamped_max_tokens == fits
    assert guarded.entry.estimated_cost_nanousd == INPUT_NANOUSD + fits * OUTPUT_NANOUSD
    assert params == UNSET
    assert guarded.server.bill.nanousd == guarded.spent_nanousd
    assert guarded.pending == [0]


def test_a_call_without_a_limit_is_sent_as_it_is_where_there_is_plenty(make_guarded: MakeGuarded) -> None:
    """
    1.056 USD is less than a quarter of five.
    """
    guarded = make_guarded("5 USD")

    reply = guarded.client.converse(**UNSET)

    assert "ClampedMaxTokens" not in told(reply)
    assert "inferenceConfig" not in sent(guarded.server)
    assert guarded.entry.clamped_max_tokens is None


def test_the_smallest_room_counts(make_guarded: MakeGuarded) -> None:
    """
    All budgets must have room, each in its own unit.
    """
    guarded = make_guarded(budgets=["a: 1 USD", "b: 8000 output_tokens", "c: 5 requests"])

    assert told(guarded.client.converse(**UNSET))["ClampedMaxTokens"] == 2_000


def test_a_share_that_is_too_little_for_an_answer_is_half_and_then_all_that_is_free(
    make_guarded: MakeGuarded,
) -> None:
    """
    A quarter of 1,000 tokens is under 256, and so is half of 400; under 256 in all, the call is refused.
    """
    guarded = make_guarded("x: 1000 output_tokens")
    guarded.server.output_tokens = 300

    limits = [told(guarded.client.converse(**UNSET))["ClampedMaxTokens"] for _ in range(3)]

    assert limits == [500, 350, 400]
    with pytest.raises(BudgetExceeded, match="maxTokens<=100 would fit, less than min_output_tokens=256"):
        guarded.client.converse(**UNSET)
    assert guarded.server.bill.requests == 3


# It may write 128,000 tokens, 3.52 USD, at 5.50 and 27.50 USD a million.
OPUS = "us.anthropic.claude-opus-4-7"


def opus_usd(output_tokens: int) -> Decimal:
    return Decimal(INPUT_TOKENS * 5_500 + output_tokens * 27_500).scaleb(-9)


def two_at_once(guarded: Guarded) -> list[Exception]:
    """
    Two threads' calls without a limit, neither of which ends before both are held; what they raise.
    """
    barrier, raised = threading.Barrier(2, timeout=20), list[Exception]()

    def meet(**_: Any) -> None:
        barrier.wait()

    def call() -> None:
        try:
            guarded.client.converse(**{**UNSET, "modelId": OPUS})
        except (BudgetExceeded, threading.BrokenBarrierError) as error:
            raised.append(error)
            barrier.abort()

    guarded.client.meta.events.register("before-send.bedrock-runtime", meet, unique_id="meet")
    threads = [threading.Thread(target=call) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    guarded.client.meta.events.unregister("before-send.bedrock-runtime", unique_id="meet")
    return raised


@pytest.mark.parametrize(
    "budget",
    [
        "20 USD",
        "2 USD",
        "0.1 USD",
        f"{2 * opus_usd(300)} USD",
        f"{2 * opus_usd(256)} USD",
        "x: 600 output_tokens",
        "x: 2000 tokens",
    ],
)
def test_the_second_of_two_calls_without_a_limit_is_not_refused(
    make_guarded: MakeGuarded, budget: str
) -> None:
    """
    A budget that could pay for both at their true size must not refuse one for the 128,000 tokens of the other.
    """
    guarded = make_guarded(budget)
    guarded.server.output_tokens = 300

    assert two_at_once(guarded) == []

    assert [entry.outcome for entry in guarded.guard.entries()] == ["answered", "answered"]


@pytest.mark.parametrize(
    ("limit", "text", "more"),
    [
        ("1.2 USD", "x" * 120_000, {}),  # 0.40 USD of input, by its bytes
        ("1 USD", TEXT, {"additionalModelRequestFields": {"thinking": {"budget_tokens": 20_000}}}),
    ],
    ids=["large input", "long thought"],
)
def test_what_is_more_than_a_share_by_itself_leaves_room_for_another(
    make_guarded: MakeGuarded, limit: str, text: str, more: dict[str, Any]
) -> None:
    """
    A quarter of what is free is too little for it, and all that is free would be too much.
    """
    guarded = make_guarded(limit)
    asked = {**UNSET, "messages": [{"role": "user", "content": [{"text": text}]}], **more}

    first = guarded.client.converse_stream(**asked)
    guarded.client.converse(**asked)
    list(first["stream"])

    assert [entry.outcome for entry in guarded.guard.entries()] == ["answered", "answered"]


def test_nor_is_it_after_others(make_guarded: MakeGuarded) -> None:
    """
    Pair after pair, until not even two of the least would fit.
    """
    guarded = make_guarded("0.2 USD")
    guarded.server.output_tokens, pairs = 300, 0

    while guarded.guard.status()[0].remaining >= 2 * opus_usd(256):
        assert two_at_once(guarded) == []
        pairs += 1

    assert pairs > 8


def test_what_the_caller_set_is_held_in_full_and_the_refusal_says_so(make_guarded: MakeGuarded) -> None:
    """
    By default a program gets what it asks for, or nothing.
    """
    guarded = make_guarded("1 USD")

    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**asking(64_000))

    lines = str(caught.value).splitlines()
    fits = (1_000_000_000 - INPUT_NANOUSD) // OUTPUT_NANOUSD
    assert lines[-2] == f"maxTokens=64000 is $1.05 of it; maxTokens<={fits} would fit"
    assert lines[-1] == 'it is held in full, as the caller set it; clamp = "always" would lower it'
    assert guarded.server.requests == ()


def test_what_the_caller_set_is_lowered_where_that_is_wanted(make_guarded: MakeGuarded) -> None:
    """
    Only when it does not fit, and by the same rule.
    """
    guarded = make_guarded("1 USD", clamp="always")

    assert "ClampedMaxTokens" not in told(guarded.client.converse(**asking(50_000)))
    reply = guarded.client.converse(**asking(64_000))

    free = 1_000_000_000 - guarded.guard.status()[0].spent * 10**9 + Decimal(guarded.entry.cost or 0) * 10**9
    fits = (int(free) - INPUT_NANOUSD) // 4 // OUTPUT_NANOUSD
    assert told(reply)["ClampedMaxTokens"] == fits
    assert sent(guarded.server)["inferenceConfig"] == {"maxTokens": fits}


@pytest.mark.parametrize("asked", [1, 100, 255, 256, 257, 4_000])
@pytest.mark.parametrize("limit", ["0.004 USD", "0.005 USD", "0.02 USD", "0.2 USD"])
def test_no_call_gets_more_than_it_asked_for(make_guarded: MakeGuarded, asked: int, limit: str) -> None:
    """
    The decisive promise, beside the limit itself.
    """
    guarded = make_guarded(limit, clamp="always")
    guarded.server.output_tokens = 10_000
    for _ in range(4):
        try:
            guarded.client.converse(**asking(asked))
        except BudgetExceeded:
            break
    for request in guarded.server.requests:
        assert json.loads(request.body)["inferenceConfig"]["maxTokens"] <= asked
    assert (
        guarded.server.bill.nanousd
        == guarded.spent_nanousd
        <= int(Decimal(limit.removesuffix(" USD")) * 10**9)
    )


def test_never_is_never(make_guarded: MakeGuarded) -> None:
    """
    As it was before there was a clamp.
    """
    guarded = make_guarded("1 USD", clamp="never")

    with pytest.raises(BudgetExceeded, match="maxTokens is not set, so the model's 64000 are held"):
        guarded.client.converse(**UNSET)


BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "anthropic": (SONNET, {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 64_000}),
    "nova": (NOVA, {}),
    "llama": ("meta.llama3-70b-instruct-v1:0", {"max_gen_len": 8_192}),
    "mistral": ("mistral.mistral-large-2407-v1:0", {}),
    "openai": ("openai.gpt-oss-120b-1:0", {}),
    "qwen": ("qwen.qwen3-32b-v1:0", {"n": 2}),
}


@pytest.mark.parametrize("operation", ["invoke_model", "invoke_model_with_response_stream"])
@pytest.mark.parametrize("name", BODIES)
def test_bodies_of_every_dialect_are_sent_with_a_limit_that_fits(
    make_guarded: MakeGuarded, name: str, operation: str
) -> None:
    """
    The server keeps to what it is sent: had the limit gone to the wrong place, it would write 5,000.
    """
    model, body = BODIES[name]
    prompt = {"prompt": TEXT} if name == "llama" else {"messages": [{"role": "user", "content": TEXT}]}
    if name == "nova":
        prompt = {"messages": UNSET["messages"]}
    guarded = make_guarded("4000 output_tokens", clamp="always")
    guarded.server.output_tokens = 5_000

    reply = getattr(guarded.client, operation)(modelId=model, body=json.dumps({**prompt, **body}))
    list(reply["body"])

    limit, answers = told(reply)["ClampedMaxTokens"], body.get("n", 1)
    assert limit * answers == 1_000
    assert guarded.entry.usage["output_tokens"] == 1_000
    assert guarded.pending == [0]


def test_streams_are_sent_so_too(make_guarded: MakeGuarded) -> None:
    """
    ConverseStream's request is Converse's.
    """
    guarded = make_guarded("4000 output_tokens")
    guarded.server.output_tokens = 5_000

    reply = guarded.client.converse_stream(**UNSET)
    list(reply["stream"])

    assert told(reply)["ClampedMaxTokens"] == 1_000 == guarded.entry.usage["output_tokens"]
    assert guarded.entry.clamped_max_tokens == 1_000


def test_a_retry_sends_and_holds_the_same(make_guarded: MakeGuarded) -> None:
    """
    A lost answer was one of the lowered request.
    """
    guarded = make_guarded("4 USD", clamp_share=0.1)
    guarded.server.will_answer(lost_answer())

    guarded.client.converse(**UNSET)

    first, second = (json.loads(request.body)["inferenceConfig"] for request in guarded.server.requests)
    assert first == second
    fits = (4_000_000_000 - INPUT_NANOUSD) // 10 // OUTPUT_NANOUSD
    assert first == {"maxTokens": fits}
    lost, answered = guarded.entry.attempts
    assert lost.cost_nanousd == INPUT_NANOUSD + fits * OUTPUT_NANOUSD
    assert (lost.outcome, answered.outcome) == ("lost", "answered")


def test_a_hand_after_ours_that_raises_it_again_is_noticed(make_guarded: MakeGuarded) -> None:
    """
    What leaves is what was held, or it does not leave.
    """
    guarded = make_guarded("1 USD")

    def raise_it(request: Any, **_: Any) -> None:
        request.data = request.data.replace(b'"maxTokens": 15142', b'"maxTokens": 64000')

    guarded.client.meta.events.register_first("request-created.bedrock-runtime", raise_it)

    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**UNSET)
    assert guarded.server.requests == ()
    assert guarded.pending == [0]


def test_what_was_changed_is_told_whoever_else_looks_at_the_request(make_guarded: MakeGuarded) -> None:
    """
    A header that is added later has it bounded again.
    """
    guarded = make_guarded("1 USD")

    def add(request: Any, **_: Any) -> None:
        request.headers["X-Amzn-Bedrock-Trace"] = "ENABLED"

    guarded.client.meta.events.register_first("request-created.bedrock-runtime", add)

    guarded.client.converse(**UNSET)

    assert guarded.entry.clamped_max_tokens == 15_142
    assert guarded.entry.estimated_cost_nanousd == INPUT_NANOUSD + 15_142 * OUTPUT_NANOUSD


class RivalLedger(MemoryLedger):
    """
    Somebody is always quicker: before each reserve, all is spent but what *leaves* says next.
    """

    def __init__(self, *leaves: int) -> None:
        super().__init__(clock=time.time)
        self._leaves = list(leaves)
        self.asked: list[int] = []

    def reserve(self, lines: Any, **named: Any) -> Any:
        (line,) = lines
        self.asked.append(line.amount)
        (balance,) = self.balances([line.key])
        taken = line.limit - balance.spent - self._leaves.pop(0)
        entry = named["entry"].changed(id=f"rival-{len(self.asked)}")
        rival = super().reserve([line._replace(amount=taken)], **{**named, "entry": entry})
        self.settle(rival, {line.key: taken}, entry.changed(outcome="answered"))
        return super().reserve(lines, **named)


def test_who_loses_every_race_gets_the_least(make_guarded: MakeGuarded) -> None:
    """
    A call is refused only when not even that fits beside what is pending.
    """
    ledger = RivalLedger(100_000, 10_000, 2_000, 400, 300)
    guarded = make_guarded("100000 output_tokens", ledger=ledger, clamp="always")

    reply = guarded.client.converse(**asking(150_000))

    assert ledger.asked == [150_000, 25_000, 2_500, 500, 256]
    assert told(reply)["ClampedMaxTokens"] == 256


def test_a_refusal_is_of_what_was_asked_for(make_guarded: MakeGuarded) -> None:
    """
    Not of the smallest that was tried.
    """
    ledger = RivalLedger(100_000, 10_000, 2_000, 400, 255)
    guarded = make_guarded("100000 output_tokens", ledger=ledger, clamp="always")

    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**asking(150_000))

    assert (caught.value.requested, caught.value.remaining) == (150_000, 255)
    assert guarded.server.requests == ()


class LeavingLedger(MemoryLedger):
    """
    Refuses once, and is gone when it is asked again: its answer is lost, whatever it did.
    """

    asked = 0

    def reserve(self, *given: Any, **named: Any) -> Any:
        self.asked += 1
        answer = super().reserve(*given, **named)
        if self.asked == 2:
            raise LedgerUnavailable("gone", "unknown")
        return answer


def test_a_ledger_that_goes_between_two_steps_has_refused(make_guarded: MakeGuarded) -> None:
    """
    What it may hold of the second is given back behind the caller's back.
    """
    ledger = LeavingLedger(clock=time.time)
    guarded = make_guarded("4000 output_tokens", ledger=ledger, clamp="always")

    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**asking(64_000))

    assert (caught.value.requested, caught.value.remaining) == (64_000, 4_000)
    assert guarded.server.requests == ()
    assert guarded.guard.flush()
    assert guarded.pending == [0]


class ReadLedger(MemoryLedger):
    """
    Counts how often its balances are looked at by a call.
    """

    reads = 0

    def balances(self, keys: Any = None) -> Any:
        self.reads += threading.current_thread() is threading.main_thread() and keys is not None
        return super().balances(keys)


def test_that_there_is_plenty_is_believed_for_a_second(make_guarded: MakeGuarded) -> None:
    """
    On DynamoDB a look is a request more. What this process holds meanwhile counts: 1.056 USD each, of ten.
    """
    now = [1_800_000_000.0]
    ledger = ReadLedger(clock=lambda: now[0])
    guarded = make_guarded("10 USD", ledger=ledger, clock=lambda: now[0], sinks=())
    reads = []

    for _ in range(8):
        guarded.client.converse(**UNSET)
        reads.append(ledger.reads)
    now[0] += 1
    guarded.client.converse(**UNSET)

    assert reads == [1, 1, 1, 1, 1, 1, 2, 2]
    assert ledger.reads == 3


def test_of_several_guards_the_smallest_limit_leaves(make_guarded: MakeGuarded) -> None:
    """
    All must admit what is sent.
    """
    guarded = make_guarded("1 USD")
    with Guard(budget="other: 2000 output_tokens", ledger="memory://") as other:
        other.attach(guarded.client)

        reply = guarded.client.converse(**UNSET)

        assert told(reply)["ClampedMaxTokens"] == 500
        assert sent(guarded.server)["inferenceConfig"] == {"maxTokens": 500}
        assert next(other.entries()).clamped_max_tokens == 500
        assert other.status()[0].pending == 0


def test_all_of_several_guards_have_on_their_books_what_leaves(make_guarded: MakeGuarded) -> None:
    """
    A lost answer was one of 500 tokens, to the first guard as well, which had let 15,142 through.
    """
    guarded = make_guarded("1 USD")
    guarded.server.will_answer(lost_answer())
    with Guard(budget="other: 2000 output_tokens", ledger="memory://") as other:
        other.attach(guarded.client)

        guarded.client.converse(**UNSET)

        (entry,) = guarded.guard.entries()
        assert entry.clamped_max_tokens == 500
        assert entry.attempts[0].cost_nanousd == INPUT_NANOUSD + 500 * OUTPUT_NANOUSD
        assert guarded.pending == [0]
        assert other.status()[0].pending == 0


@pytest.mark.parametrize(
    "budget",
    [Budget("x", "1 USD", on_exceed="warn"), Budget("x", "1 USD", mode="shadow")],
    ids=["soft", "shadow"],
)
def test_what_never_refuses_changes_no_request(make_guarded: MakeGuarded, budget: Budget) -> None:
    """
    Who only counts must leave no mark.
    """
    guarded = make_guarded(budgets=[budget], clamp="always")

    guarded.client.converse(**UNSET)
    guarded.client.converse(**asking(64_000))

    assert sent(guarded.server)["inferenceConfig"] == {"maxTokens": 64_000}
    assert [entry.clamped_max_tokens for entry in guarded.guard.entries(outcome="answered")] == [None, None]


def test_a_shadow_guard_changes_no_request(make_guarded: MakeGuarded) -> None:
    """
    The same, of the mode.
    """
    guarded = make_guarded("1 USD", mode="shadow", clamp="always", refine="count_tokens")

    guarded.client.converse(**UNSET)

    assert "inferenceConfig" not in sent(guarded.server)
    assert len(guarded.server.requests) == 1


@pytest.mark.parametrize(
    "budget", [Budget("x", "1 USD"), Budget("x", "1 USD", mode="shadow")], ids=["guard", "budget"]
)
def test_a_shadow_tells_what_would_have_been_clamped(make_guarded: MakeGuarded, budget: Budget) -> None:
    """
    It is no refusal: who rolls a limit out wants to know how many those will be.
    """
    guarded = make_guarded(budgets=[budget], mode="enforce" if budget.mode == "shadow" else "shadow")

    guarded.client.converse(**UNSET)
    guarded.client.converse(**asking(64_000))

    told = [entry.reason for entry in guarded.guard.entries(outcome="would_refuse")]
    assert sorted(map(str, told)) == ["budget", "clamped"]
    assert guarded.guard.status()[0].would_refuse == 1


def test_a_top_up_is_room(make_guarded: MakeGuarded) -> None:
    """
    A share of what is free now.
    """
    guarded = make_guarded("x: 1000 output_tokens/day")
    guarded.guard.top_up("x", "3000 output_tokens")
    guarded.client.converse(**asking(10))  # what is known of controls is read by a call

    left = 4_000 - 10
    assert told(guarded.client.converse(**UNSET))["ClampedMaxTokens"] == left // 4


def test_a_stop_is_not_got_round(make_guarded: MakeGuarded) -> None:
    """
    No step lets a stopped call through.
    """
    guarded = make_guarded(budgets=[Budget("x", "1 USD", fallback=[NOVA])], clamp="always")
    guarded.guard.stop(match={"family": "*"}, reason="incident")

    with pytest.raises(Stopped):
        guarded.client.converse(**asking(64_000))
    with pytest.raises(Stopped):
        guarded.client.converse(**UNSET)
    assert guarded.server.requests == ()


@pytest.mark.parametrize(
    "budget",
    [
        Budget("x", "4000 output_tokens/minute", burst=4_000),
        Budget("x", "4000 output_tokens/rolling hour"),
        Budget("x", "4000 tokens/day"),
    ],
    ids=str,
)
def test_what_rolls_and_rates_clamp_what_they_refuse(make_guarded: MakeGuarded, budget: Budget) -> None:
    """
    Their room is known once they refuse.
    """
    guarded = make_guarded(budgets=[budget], clock=lambda: 1_800_000_000.0)
    guarded.server.output_tokens = 5_000

    limit = told(guarded.client.converse(**UNSET))["ClampedMaxTokens"]

    assert limit == ((4_000 - INPUT_TOKENS) // 4 if budget.limit.unit == "tokens" else 1_000)
    assert guarded.entry.usage["output_tokens"] == limit


class GoneLedger(MemoryLedger):
    """
    A ledger that can be read, and for a while not written.
    """

    is_gone = True

    def reserve(self, *given: Any, **named: Any) -> Any:
        if self.is_gone:
            raise LedgerUnavailable("gone", "not_done")
        return super().reserve(*given, **named)


def test_while_the_ledger_is_gone_what_is_let_through_is_held_whole(make_guarded: MakeGuarded) -> None:
    """
    `allow_up_to` is a limit of its own: what does not fit there is refused, and nothing is sent.
    """
    ledger = GoneLedger(clock=time.time)
    guarded = make_guarded("50 USD", ledger=ledger, on_ledger_error="allow", allow_up_to="2 USD")

    assert "ClampedMaxTokens" not in told(guarded.client.converse(**UNSET))
    guarded.client.converse(**UNSET)
    assert "inferenceConfig" not in sent(guarded.server)
    ledger.is_gone = False
    assert guarded.guard.flush()


def test_the_first_of_a_balance_is_an_alert(make_guarded: MakeGuarded) -> None:
    """
    Once for each balance and window, whichever process cuts calls short: an agent makes a thousand calls.
    """
    now, told = [1_795_334_400.0], list[Alert]()
    ledger = MemoryLedger(clock=lambda: now[0])
    budgets = ["x: 1 USD/day", "plenty: 100 USD/day", "calls: 10 requests/day"]
    both = [
        make_guarded(budgets=budgets, ledger=ledger, clock=lambda: now[0], sinks=[told.append]) for _ in "ab"
    ]

    for at in (0, 10, 86_400, 86_500):
        now[0] = 1_795_334_400.0 + at
        for guarded in both:
            guarded.client.converse(**UNSET)
            assert guarded.guard.flush(30)

    assert [(alert.kind, alert.budget) for alert in told] == [("clamped", "x")] * 2
    assert len({alert.id for alert in told}) == 2
    assert told[0].text.startswith(
        f"x (1 USD/day): maxTokens of a Converse of {SONNET} was lowered to 15142, for it may come to more than "
        "its share of what is free; that of others may be, too · spent $"
    )


def test_a_limit_of_the_caller_that_is_lowered_is_an_alert_of_the_balance_that_refused(
    make_guarded: MakeGuarded,
) -> None:
    """
    And no alert comes of calls that are held as they are, or refused.
    """
    told = list[Alert]()
    budgets = ["x: 900 output_tokens", "y: 100000 output_tokens"]
    guarded = make_guarded(budgets=budgets, clamp="always", sinks=[told.append])
    guarded.server.output_tokens = 500
    guarded.client.converse(**asking(500))
    assert guarded.guard.flush(30)
    before = [alert.kind for alert in told]
    guarded.client.converse(**asking(500))
    with pytest.raises(BudgetExceeded):
        guarded.client.converse(**asking(500))
    assert guarded.guard.flush(30)

    assert "clamped" not in before
    assert [(alert.budget, alert.per) for alert in told if alert.kind == "clamped"] == [("x", ())]


def test_the_alert_is_one_line_whatever_a_tag_says(make_guarded: MakeGuarded) -> None:
    """
    It may be an end user's.
    """
    told = list[Alert]()
    guarded = make_guarded(budgets=[Budget("x", "1 USD/day", per="user")], sinks=[told.append])

    with scope(user="ann\nERROR forged" + "x" * 5_000):
        guarded.client.converse(**UNSET)
    assert guarded.guard.flush(30)

    (text,) = [alert.text for alert in told if alert.kind == "clamped"]
    assert "[user=ann ERROR forged" in text
    assert len(text) < 1_000


def test_what_was_cut_is_charged_what_aws_reports(make_guarded: MakeGuarded) -> None:
    """
    And an overrun is an anomaly, as ever: measured against what was held.
    """
    guarded = make_guarded("1 USD")
    guarded.server.will_answer(converse_reply(input_tokens=24, output_tokens=30_000))

    guarded.client.converse(**UNSET)

    assert guarded.entry.anomalies == ("above_bound",)
    assert guarded.spent_nanousd == 24 * 3_300 + 30_000 * OUTPUT_NANOUSD


def test_a_sqlite_ledger_is_looked_at_alike(make_guarded: MakeGuarded, tmp_path: Any) -> None:
    """
    Another process's spending is known too.
    """
    url = f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    first, second = make_guarded("1 USD", ledger=url), make_guarded("1 USD", ledger=url)
    first.server.will_answer(converse_reply(input_tokens=0, output_tokens=20_000))
    first.client.converse(**asking(20_000))

    free = 1_000_000_000 - first.spent_nanousd
    reply = second.client.converse(**UNSET)

    assert told(reply)["ClampedMaxTokens"] == (free - INPUT_NANOUSD) // 4 // OUTPUT_NANOUSD


@pytest.mark.parametrize(
    ("model_id", "budget", "takes"),
    [
        ("meta.llama3-8b-instruct-v1:0", "0.01 USD", 2_048),
        ("amazon.titan-text-premier-v1:0", "0.04 USD", 3_000),
        ("deepseek.v3.2", "1 USD", 32_768),
    ],
)
def test_no_limit_is_put_in_that_the_api_does_not_take(
    make_guarded: MakeGuarded, model_id: str, budget: str, takes: int
) -> None:
    """
    Lists say more of these models than their API takes; without a limit it takes the call.
    """
    guarded = make_guarded(budget)

    assert told(guarded.client.converse(**{**UNSET, "modelId": model_id}))["ClampedMaxTokens"] == takes


@pytest.mark.parametrize(("text_bytes", "fits"), [(400_000, 99_903), (499_000, 4_096)])
def test_a_limit_that_is_put_in_fits_in_the_window_beside_the_input(
    make_guarded: MakeGuarded, text_bytes: int, fits: int
) -> None:
    """
    Grok may fill its window of 500,000 with the answer: what is asked for beside the input must be less.
    """
    guarded = make_guarded("10 USD")
    messages = [{"role": "user", "content": [{"text": "x" * text_bytes}]}]

    reply = guarded.client.converse(modelId="xai.grok-4.6", messages=messages)

    assert told(reply)["ClampedMaxTokens"] == pytest.approx(fits, abs=300)
    assert text_bytes + told(reply)["ClampedMaxTokens"] <= 500_000 or fits == 4_096


def test_a_top_up_that_this_process_has_not_seen_is_room(make_guarded: MakeGuarded) -> None:
    """
    A share of what was free before it would cut the first call of every process.
    """
    first = make_guarded("1 USD", ledger=MemoryLedger(clock=time.time))
    second = make_guarded("1 USD", ledger=first.guard.ledger)
    first.guard.top_up("default", "9 USD")

    assert "ClampedMaxTokens" not in told(second.client.converse(**UNSET))


def test_a_guardrail_looks_at_less_of_a_shorter_answer(make_guarded: MakeGuarded) -> None:
    """
    Its units for all of 10,000 tokens are more than the budget; they shrink with the answer.
    """
    guarded = make_guarded("0.02 USD")
    guardrail = {"guardrailIdentifier": "abc", "guardrailVersion": "1"}
    body = json.dumps({"messages": UNSET["messages"]})

    reply = guarded.client.invoke_model(modelId=NOVA, body=body, **guardrail)
    reply["body"].read()

    assert 256 <= told(reply)["ClampedMaxTokens"] < 10_000
    assert 5_000_000 < (guarded.entry.estimated_cost_nanousd or 0) <= 5_500_000
    assert guarded.pending == [0]


THINKING = {"thinking": {"type": "enabled", "budget_tokens": 8_000}}


def test_what_the_caller_gave_to_thinking_is_kept(make_guarded: MakeGuarded) -> None:
    """
    It was set, though `maxTokens` was not: a quarter of what is free beside it is left to the answer.
    """
    guarded = make_guarded("0.6 USD")

    reply = guarded.client.converse(**UNSET, additionalModelRequestFields=THINKING)

    assert sent(guarded.server)["additionalModelRequestFields"] == THINKING
    thinks = INPUT_NANOUSD + 8_000 * OUTPUT_NANOUSD
    fits = 8_000 + (600_000_000 - thinks) // 4 // OUTPUT_NANOUSD
    assert told(reply)["ClampedMaxTokens"] == pytest.approx(fits, abs=20)  # its own words are input, too


def test_what_leaves_too_little_beside_thinking_is_refused(make_guarded: MakeGuarded) -> None:
    """
    Unless everybody's limits may be lowered.
    """
    asked = {**UNSET, "additionalModelRequestFields": THINKING}
    with pytest.raises(BudgetExceeded):
        make_guarded("0.1 USD").client.converse(**asked)
    guarded = make_guarded("0.1 USD", clamp="always")

    guarded.client.converse(**asked)

    assert sent(guarded.server)["additionalModelRequestFields"]["thinking"]["budget_tokens"] < 8_000


def test_no_balance_is_read_for_what_takes_no_limit(make_guarded: MakeGuarded) -> None:
    """
    A prompt resource brings its own, so a look would be a request for nothing.
    """
    arn = "arn:aws:bedrock:us-east-1:123456789012:prompt/ABCDEFGHIJ"
    ledger = ReadLedger(clock=time.time)
    guarded = make_guarded("5 USD", ledger=ledger, models={arn: NOVA}, sinks=())

    guarded.client.converse(**{**UNSET, "modelId": arn})

    assert ledger.reads == 0


def test_a_call_without_a_price_is_cut_short_for_a_budget_of_tokens(make_guarded: MakeGuarded) -> None:
    """
    Who lets such calls through counts tokens, not money.
    """
    guarded = make_guarded(budgets=["tokens: 8000 output_tokens", "money: 1 USD"], on_unpriced="allow")

    reply = guarded.client.converse(**{**UNSET, "modelId": "who.knows-v1:0"})

    assert told(reply)["ClampedMaxTokens"] == 2_000
