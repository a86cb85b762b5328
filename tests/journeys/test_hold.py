"""
A hold round a request that another client sends: plain HTTP, and no botocore in between.
"""

from __future__ import annotations

import json
import os
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.eventstream import EventStreamBuffer

from bedrock_guard import BudgetExceeded, Guard, scope
from bedrock_guard.errors import (
    ConfigurationError,
    LedgerUnavailable,
    ReservationClosed,
    UnpricedModel,
)
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.testing.bedrock_server import (
    BedrockServer,
    converse_reply,
    cut_stream,
    error,
    lost_answer,
    missing_usage,
)

from .conftest import HELLO, NOVA, SONNET, eventually

REGION = "us-east-1"
BODY: dict[str, Any] = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "hello there"}],
}
INVOKE = {"modelId": SONNET, "body": BODY}
PATHS = {
    "Converse": "converse",
    "ConverseStream": "converse-stream",
    "InvokeModel": "invoke",
    "InvokeModelWithResponseStream": "invoke-with-response-stream",
}
USED = converse_reply(
    input_tokens=10,
    output_tokens=20,
    cache_read_input_tokens=1_000,
    cache_write_5m_input_tokens=200,
    cache_write_1h_input_tokens=300,
)
USAGE = {"usage": {"inputTokens": 10, "outputTokens": 5}}
# 10 x 3.30 + 20 x 16.50 + 1000 x 0.33 + 200 x 4.125 + 300 x 6.60 USD a million
COST = Decimal("0.003498")
ODD_REPLIES = [
    "",
    b"",
    None,
    [],
    {},
    5,
    object(),
    "no JSON",
    b"\xff\xfe{",
    b"[1, 2]",
    [None, 5, [], "", b"\xff"],
    {"usage": None},
    {"usage": {"inputTokens": "many"}},
    {"usage": {"inputTokens": -1, "outputTokens": -5}, "type": "message_delta"},
    {"usage": {"input_tokens": -1, "output_tokens": -5}, "delta": {"stop_reason": "end_turn"}},
    {"metadata": None},
    {"metadata": {"usage": 7}},
    {"chunk": None},
    {"chunk": {"bytes": "not base64"}},
    {"chunk": {"bytes": 7}},
    {"body": b"{"},
    {("a", "tuple"): 1},
    {"message": "Too many requests"},
]


class Sender:
    """
    A client of another make: it knows HTTP, and nothing of guards.
    """

    def __init__(self, server: BedrockServer) -> None:
        self.server = server

    def send(self, operation: str, params: dict[str, Any]) -> HTTPResponse:
        rest = {name: value for name, value in params.items() if name != "modelId"}
        connection = HTTPConnection(urlsplit(self.server.url).netloc, timeout=5)
        connection.request(
            "POST",
            f"/model/{quote(params['modelId'], safe='')}/{PATHS[operation]}",
            json.dumps(rest.get("body", rest)),
            {"Content-Type": "application/json"},
        )
        return connection.getresponse()

    def events(self, operation: str, params: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """
        The frames of a stream: their names, and what they carry.
        """
        reply = self.send(operation, params)
        buffer = EventStreamBuffer()
        while data := reply.read1(100):
            buffer.add_data(data)
            for frame in buffer:
                yield frame.headers[":event-type"], json.loads(frame.payload)


@pytest.fixture
def sender(server: BedrockServer) -> Sender:
    return Sender(server)


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: Any, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def make_guard(ledger: str) -> Iterator[Callable[..., Guard]]:
    made: list[Guard] = []

    def make(budget: str = "5 USD/day", **settings: Any) -> Guard:
        if "budgets" not in settings:
            settings["budget"] = budget
        made.append(Guard(**{"ledger": ledger, **settings}))
        return made[-1]

    yield make
    for guard in made:
        guard.close()


@pytest.fixture
def guard(make_guard: Callable[..., Guard]) -> Guard:
    return make_guard()


def spent(guard: Guard) -> int:
    """
    In nano-dollars; nothing may be pending any more.
    """
    (row,) = guard.status()
    assert row.pending == 0
    return int(row.spent * 10**9)


def test_a_converse_request_costs_what_the_server_bills(
    guard: Guard, sender: Sender, server: BedrockServer
) -> None:
    """
    The incident's own calls went through a client like this.
    """
    server.will_answer(USED)

    with guard.hold("Converse", HELLO, region=REGION) as hold:
        held = guard.status()[0].pending
        assert (hold.entry, hold.estimate.cost) == (None, held)
        entry = hold.settle(sender.send("Converse", HELLO).read())

    assert spent(guard) == server.bill.nanousd == COST * 10**9
    assert entry.cost == COST
    assert (entry.outcome, entry.basis, entry.id) == ("answered", "reported", hold.id)
    assert [attempt.status for attempt in entry.attempts] == [200]
    assert next(guard.entries()) == hold.entry == entry


@pytest.mark.parametrize("as_given", [bytes, str, json.loads, lambda body: {"body": body}])
@pytest.mark.parametrize("has_headers", [True, False])
def test_an_invoked_body_may_come_in_any_form(
    guard: Guard,
    sender: Sender,
    server: BedrockServer,
    as_given: Callable[[Any], Any],
    has_headers: bool,
) -> None:
    """
    One client shows bytes, the next an object; the money is the same.
    """
    server.will_answer(USED)

    with guard.hold("InvokeModel", INVOKE, region=REGION) as hold:
        reply = sender.send("InvokeModel", INVOKE)
        body = reply.read()
        hold.settle(
            as_given(body.decode() if as_given is str else body),
            headers=reply.headers if has_headers else None,
        )

    assert spent(guard) == server.bill.nanousd == COST * 10**9


def test_headers_alone_tell_what_an_invoked_model_used(
    guard: Guard, sender: Sender, server: BedrockServer
) -> None:
    """
    Some clients give the text, and no document.
    """
    with guard.hold("InvokeModel", INVOKE, region=REGION) as hold:
        reply = sender.send("InvokeModel", INVOKE)
        hold.settle(None, headers=[(name.upper(), value) for name, value in reply.getheaders()])

    assert spent(guard) == server.bill.nanousd > 0


def test_headers_that_cannot_tell_all_are_not_believed_alone(guard: Guard) -> None:
    """
    What was cached is told by bodies only, and costs another price.
    """
    marked = [{"type": "text", "text": "hello there", "cache_control": {"type": "ephemeral"}}]
    body = {**BODY, "messages": [{"role": "user", "content": marked}]}
    counts = {"x-amzn-bedrock-input-token-count": "3", "x-amzn-bedrock-output-token-count": "5"}

    with guard.hold("InvokeModel", {**INVOKE, "body": body}, region=REGION) as hold:
        entry = hold.settle(None, headers=counts)

    assert (entry.outcome, entry.basis) == ("lost", "estimated")


@pytest.mark.parametrize("shape", ["boto3", "payloads", "last", "lazy"])
def test_a_converse_stream_costs_what_the_server_bills(
    guard: Guard, sender: Sender, server: BedrockServer, shape: str
) -> None:
    """
    Its last event states usage, with its name beside it or without.
    """
    server.will_answer(USED)

    with guard.hold("ConverseStream", HELLO, region=REGION) as hold:
        events = sender.events("ConverseStream", HELLO)
        if shape == "lazy":
            hold.settle({name: payload} for name, payload in events)
        elif shape == "boto3":
            hold.settle([{name: payload} for name, payload in events])
        elif shape == "payloads":
            hold.settle([json.dumps(payload).encode() for _, payload in events])
        else:
            hold.settle({name: payload for name, payload in events if name == "metadata"})

    assert spent(guard) == server.bill.nanousd == COST * 10**9


@pytest.mark.parametrize("shape", ["boto3", "payloads", "documents", "last"])
def test_an_invoked_stream_costs_what_the_server_bills(
    guard: Guard, sender: Sender, server: BedrockServer, shape: str
) -> None:
    """
    Its chunks carry documents in the maker's own dialect; the last has AWS's figures.
    """
    server.will_answer(converse_reply(input_tokens=10, output_tokens=20, cache_read_input_tokens=1_000))

    with guard.hold("InvokeModelWithResponseStream", INVOKE, region=REGION) as hold:
        payloads = [payload for _, payload in sender.events("InvokeModelWithResponseStream", INVOKE)]
        chunks = [b64decode(payload["bytes"]) for payload in payloads]
        documents = [json.loads(chunk) for chunk in chunks]
        hold.settle(
            {
                "boto3": [{"chunk": {"bytes": chunk}} for chunk in chunks],
                "payloads": payloads,
                "documents": documents,
                "last": documents[-1],
            }[shape]
        )

    # 10 x 3.30 + 20 x 16.50 + 1000 x 0.33 USD a million
    assert spent(guard) == server.bill.nanousd == 693_000


def test_a_request_that_does_not_fit_is_not_to_be_sent(
    make_guard: Callable[..., Guard], server: BedrockServer
) -> None:
    """
    The block does not begin, so nothing in it leaves.
    """
    guard = make_guard("0.001 USD/day")

    with pytest.raises(BudgetExceeded) as caught, guard.hold("Converse", HELLO, region=REGION):
        pytest.fail("the block was entered")

    assert server.requests == ()
    assert (caught.value.budget, caught.value.operation) == ("default", "Converse")
    assert (spent(guard), next(guard.entries()).outcome) == (0, "refused")


def test_what_one_holds_the_next_cannot(make_guard: Callable[..., Guard]) -> None:
    """
    Two clients, one budget: what is pending counts as if it were spent.
    """
    guard = make_guard("0.003 USD/day")

    with guard.hold("Converse", HELLO, region=REGION), pytest.raises(BudgetExceeded):
        guard.hold("InvokeModel", INVOKE, region=REGION).__enter__()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(400, "rejected"), (429, "rejected"), (503, "rejected"), (408, "lost"), (424, "lost"), (500, "lost")],
)
def test_a_status_says_whether_an_error_is_free(
    guard: Guard, sender: Sender, server: BedrockServer, status: int, outcome: str
) -> None:
    """
    A boto3 client would be charged the same for it; "not 200" does not mean free.
    """
    server.always(error(status))

    with guard.hold("Converse", HELLO, region=REGION) as hold:
        reply = sender.send("Converse", HELLO)
        entry = hold.rejected(HTTPStatus(reply.status), reply.headers["x-amzn-ErrorType"].partition(":")[0])

    (attempt,) = entry.attempts
    assert (entry.outcome, attempt.status, type(attempt.status)) == (outcome, status, int)
    assert attempt.error_code.endswith("Exception")
    assert spent(guard) == (0 if outcome == "rejected" else entry.estimated_cost_nanousd)
    assert next(guard.entries()) == entry


def test_a_rejection_without_a_status_is_believed(guard: Guard) -> None:
    """
    A client that could not connect has no status to show.
    """
    with guard.hold("Converse", HELLO, region=REGION) as hold:
        entry = hold.rejected(error_code="ConnectError")

    assert (entry.outcome, entry.attempts[0].error_code) == ("rejected", "ConnectError")
    assert spent(guard) == 0


@pytest.mark.parametrize("policy", ["charge", "release"])
@pytest.mark.parametrize("how", ["lost", "silently", "settled without usage"])
def test_a_lost_reply_is_charged_as_the_setting_says(
    make_guard: Callable[..., Guard], sender: Sender, server: BedrockServer, policy: str, how: str
) -> None:
    """
    One rule for every client.
    """
    guard = make_guard(on_lost_reply=policy)
    server.will_answer(missing_usage())

    with guard.hold("Converse", HELLO, region=REGION) as hold:
        reply = sender.send("Converse", HELLO).read()
        if how == "lost":
            hold.lost(504, "GatewayTimeout")
        elif how != "silently":
            hold.settle(reply)

    entry = hold.entry
    assert (entry.outcome, entry.basis) == ("lost", "estimated")
    assert spent(guard) == (entry.estimated_cost_nanousd if policy == "charge" else 0)
    if how == "lost":
        assert (entry.attempts[0].status, entry.attempts[0].error_code) == (504, "GatewayTimeout")


def test_a_client_that_raises_leaves_its_estimate(
    guard: Guard, sender: Sender, server: BedrockServer
) -> None:
    """
    The server billed it; the books must not be below the bill.
    """
    server.will_answer(lost_answer())

    with (
        pytest.raises((HTTPException, OSError)) as caught,
        guard.hold("Converse", HELLO, region=REGION) as hold,
    ):
        sender.send("Converse", HELLO)

    assert hold.entry.attempts[0].error_code == type(caught.value).__name__
    assert spent(guard) == hold.entry.estimated_cost_nanousd >= server.bill.nanousd > 0


@pytest.mark.parametrize("raised", [ValueError("mine"), KeyboardInterrupt(), GeneratorExit()])
def test_what_the_block_raises_goes_on_unchanged(guard: Guard, raised: BaseException) -> None:
    """
    The guard is no error handler.
    """
    with pytest.raises(type(raised)) as caught, guard.hold("Converse", HELLO, region=REGION) as hold:
        raise raised

    assert caught.value is raised
    assert caught.value.__context__ is None
    assert hold.entry.attempts[0].error_code == type(raised).__name__


def test_an_end_that_was_told_stays_when_the_block_raises_later(guard: Guard, sender: Sender) -> None:
    """
    A bug in what reads the answer does not make the answer dearer.
    """
    with pytest.raises(ZeroDivisionError), guard.hold("Converse", HELLO, region=REGION) as hold:
        hold.settle(sender.send("Converse", HELLO).read())
        _ = 1 / 0

    assert (hold.entry.outcome, hold.entry.basis) == ("answered", "reported")


@pytest.mark.parametrize("again", ["settle", "rejected", "lost"])
@pytest.mark.parametrize(
    ("first", "says"),
    [
        (lambda hold: hold.settle(b'{"usage": {"inputTokens": 1, "outputTokens": 1}}'), "settle.*answered"),
        (lambda hold: hold.rejected(), "rejected.*rejected"),
        (lambda hold: hold.lost(), "lost.*lost"),
        (lambda hold: hold.__exit__(None, None, None), "leaving its block.*lost"),
    ],
)
def test_a_hold_ends_once_and_says_what_came_first(
    guard: Guard, first: Callable[[Any], Any], says: str, again: str
) -> None:
    """
    The second word is a bug of the caller's, and must neither count nor pass unseen.
    """
    with guard.hold("Converse", HELLO, region=REGION) as hold:
        first(hold)
        before = spent(guard)
        with pytest.raises(ReservationClosed, match=f"(?s){hold.id}.*{says}.*once"):
            getattr(hold, again)(*([{}] if again == "settle" else []))

    assert spent(guard) == before
    assert len(list(guard.entries())) == 1


@pytest.mark.parametrize("operation", list(PATHS))
@pytest.mark.parametrize("odd", ODD_REPLIES, ids=lambda odd: "object" if type(odd) is object else repr(odd))
def test_no_reply_is_odd_enough_to_raise_or_to_be_free(guard: Guard, operation: str, odd: Any) -> None:
    """
    The request was answered and paid for, whatever came back.
    """
    params = INVOKE if "Invoke" in operation else HELLO

    with guard.hold(operation, params, region=REGION) as hold:
        entry = hold.settle(odd, headers={"x-amzn-bedrock-input-token-count": "-3"})

    assert entry.basis == "estimated"
    assert spent(guard) == entry.estimated_cost_nanousd > 0


def test_a_stream_that_breaks_while_it_is_read_is_lost_and_heard_of(
    guard: Guard, sender: Sender, server: BedrockServer
) -> None:
    """
    Its error is the caller's to handle, and the whole generation was billed.
    """
    server.will_answer(cut_stream(after_events=2))

    with pytest.raises(HTTPException) as caught, guard.hold("ConverseStream", HELLO, region=REGION) as hold:
        hold.settle({name: payload} for name, payload in sender.events("ConverseStream", HELLO))

    (attempt,) = hold.entry.attempts
    assert (attempt.outcome, attempt.error_code) == ("lost", type(caught.value).__name__)
    assert spent(guard) == hold.entry.estimated_cost_nanousd >= server.bill.nanousd > 0


def test_a_stream_that_breaks_after_its_last_word_is_charged_by_it(guard: Guard) -> None:
    """
    What AWS has said counts, whatever follows.
    """

    def events() -> Iterator[dict[str, Any]]:
        yield {"metadata": {"usage": {"inputTokens": 10, "outputTokens": 5}}}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), guard.hold("ConverseStream", HELLO, region=REGION) as hold:
        hold.settle(events())

    assert hold.entry.outcome == "answered"
    assert spent(guard) == 10 * 3_300 + 5 * 16_500


def test_an_iterable_that_tells_the_end_itself_has_the_word(guard: Guard) -> None:
    """
    Whoever comes first ends it, also from inside.
    """

    def events(failure: BaseException | None) -> Iterator[dict[str, Any]]:
        hold.rejected(429)
        yield {"metadata": USAGE}
        if failure is not None:
            raise failure

    for failure, raised in [(None, ReservationClosed), (ZeroDivisionError(), ZeroDivisionError)]:
        with pytest.raises(raised), guard.hold("ConverseStream", HELLO, region=REGION) as hold:
            hold.settle(events(failure))
        assert hold.entry.outcome == "rejected"

    assert spent(guard) == 0


def test_tags_and_tallies_are_those_of_the_block_that_enters(make_guard: Callable[..., Guard]) -> None:
    """
    Attribution must not depend on who sends.
    """
    from bedrock_guard import Budget

    guard = make_guard(budgets=[Budget("team", "5 USD", per="team")], tags={"team": "search", "app": "x"})

    with scope(team="infra") as tally, guard.hold("Converse", HELLO, region=REGION) as hold:
        entry = hold.settle(USAGE)

    assert (entry.tags["team"], entry.tags["app"]) == ("infra", "x")
    assert (entry.tags["operation"], entry.region) == ("Converse", REGION)
    assert [dict(row.per)["team"] for row in guard.status()] == ["infra"]
    assert (tally.calls, tally.cost) == (1, entry.cost)


def test_of_many_threads_that_end_it_one_does(guard: Guard) -> None:
    """
    A watchdog and a worker may meet at the end of a call.
    """
    for _ in range(20):
        with guard.hold("Converse", HELLO, region=REGION) as hold:
            start = threading.Barrier(4)
            ends: list[Any] = []

            def end(how: Callable[[], Any], start: Any = start, ends: list[Any] = ends) -> None:
                start.wait()
                try:
                    ends.append(how())
                except ReservationClosed as late:
                    ends.append(late)

            ways = [partial(hold.settle, USAGE), hold.rejected, hold.lost, partial(hold.settle, USAGE)]
            threads = [threading.Thread(target=end, args=(way,)) for way in ways]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert [end for end in ends if not isinstance(end, ReservationClosed)] == [hold.entry]

    costs = [entry.cost_nanousd for entry in guard.entries()]
    assert len(costs) == 20
    assert spent(guard) == sum(costs)


def test_many_threads_never_hold_more_than_the_budget(
    make_guard: Callable[..., Guard], sender: Sender, server: BedrockServer
) -> None:
    """
    The cap is hard for clients of any make.
    """
    guard = make_guard("0.01 USD/day")
    refused: list[BudgetExceeded] = []

    def work() -> None:
        for _ in range(4):
            try:
                with guard.hold("Converse", HELLO, region=REGION) as hold:
                    hold.settle(sender.send("Converse", HELLO).read())
            except BudgetExceeded as refusal:
                refused.append(refusal)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert refused
    assert spent(guard) == server.bill.nanousd <= 10_000_000


@pytest.mark.parametrize("outcome", ["unknown", "not_done"])
def test_a_ledger_whose_answer_is_lost_keeps_no_hold(
    outcome: Any, server: BedrockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It may have held what nobody will ever end.
    """
    guard = Guard(budget="5 USD", ledger="memory://")
    reserve = MemoryLedger.reserve

    def lose_the_answer(*args: Any, **kwargs: Any) -> Any:
        if outcome == "unknown":
            reserve(*args, **kwargs)
        raise LedgerUnavailable("The answer did not come.", outcome)

    with monkeypatch.context() as patched:
        patched.setattr(MemoryLedger, "reserve", lose_the_answer)
        with pytest.raises(LedgerUnavailable):
            guard.hold("Converse", HELLO, region=REGION).__enter__()

    assert eventually(lambda: guard.status()[0].pending == 0)
    assert spent(guard) == 0


def test_an_interrupt_while_it_reserves_keeps_no_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Ctrl-C at the wrong moment must not cost an estimate.
    """
    guard = Guard(budget="5 USD", ledger="memory://")
    reserve = MemoryLedger.reserve

    def interrupt(*args: Any, **kwargs: Any) -> Any:
        reserve(*args, **kwargs)
        raise KeyboardInterrupt

    hold = guard.hold("Converse", HELLO, region=REGION)
    with monkeypatch.context() as patched:
        patched.setattr(MemoryLedger, "reserve", interrupt)
        with pytest.raises(KeyboardInterrupt):
            hold.__enter__()

    assert spent(guard) == 0
    with pytest.raises(ReservationClosed):
        hold.settle({})


def test_a_hold_is_entered_first_and_once(guard: Guard) -> None:
    """
    Used in another order it holds nothing, or the wrong thing.
    """
    hold = guard.hold("Converse", HELLO, region=REGION)
    for use in (hold.rejected, hold.lost, lambda: hold.settle({}), lambda: hold.id, lambda: hold.estimate):
        with pytest.raises(ConfigurationError, match="not entered"):
            use()
    assert guard.status()[0].pending == 0

    with hold:
        hold.rejected()

    with pytest.raises(ConfigurationError, match="entered once"):
        hold.__enter__()
    assert spent(guard) == 0


@pytest.mark.parametrize(
    ("operation", "params", "region", "says"),
    [
        ("converse", HELLO, REGION, "'converse' is no operation"),
        ("CountTokens", HELLO, REGION, "no operation that is metered"),
        (None, HELLO, REGION, "None is no operation"),
        ("Converse", {**HELLO, "modelId": None}, REGION, "model id is None"),
        ("Converse", {}, REGION, "model id is None"),
        ("Converse", [HELLO], REGION, "parameters are a list"),
        ("Converse", HELLO, None, "region is None"),
        ("Converse", HELLO, "", "region is ''"),
        ("InvokeModel", {**INVOKE, "body": {"messages": [object()]}}, REGION, "cannot be written as JSON"),
        ("InvokeModel", {**INVOKE, "body": {"messages": {1, 2}}}, REGION, "cannot be written as JSON"),
    ],
)
def test_what_cannot_be_held_for_is_quoted(
    guard: Guard, operation: Any, params: Any, region: Any, says: str
) -> None:
    """
    Before the block, so that nothing is sent.
    """
    with pytest.raises(ConfigurationError, match=says):
        guard.hold(operation, params, region=region)


def test_an_unpriced_model_is_refused_on_entering(guard: Guard) -> None:
    """
    A model at 0 USD is a way round every budget.
    """
    with pytest.raises(UnpricedModel):
        guard.hold("Converse", {**HELLO, "modelId": "meta.llama9-70b-v1:0"}, region=REGION).__enter__()


def test_a_hold_keeps_no_prompt(guard: Guard) -> None:
    """
    It may live for long, and be shown in a debugger or a log.
    """
    params = {"modelId": NOVA, "messages": [{"role": "user", "content": [{"text": "SECRETPROMPT"}]}]}

    with guard.hold("Converse", params, region=REGION) as hold:
        entry = hold.settle({"output": "SECRETREPLY"})

    assert "SECRET" not in repr([vars(hold), hold._call, hold._opened.plan, entry])


def test_a_body_is_held_for_alike_in_every_form(guard: Guard) -> None:
    """
    An object is convenient for HTTP clients; it must not be a smaller request.
    """
    estimates = []
    for body in (BODY, json.dumps(BODY), json.dumps(BODY).encode()):
        with guard.hold("InvokeModel", {**INVOKE, "body": body}, region=REGION) as hold:
            estimates.append(hold.estimate.cost)
            hold.rejected()

    assert estimates[0] == estimates[1] == estimates[2]
    assert estimates[0] == guard.estimate("InvokeModel", modelId=SONNET, body=json.dumps(BODY)).cost


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_leaves_the_block_without_ending_what_its_parent_holds(
    make_guard: Callable[..., Guard], tmp_path: Path
) -> None:
    """
    The parent's answer is still under way.
    """
    guard = make_guard(ledger=f"sqlite:///{tmp_path / 'shared.db'}")

    with guard.hold("Converse", HELLO, region=REGION) as hold:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with pytest.raises(ReservationClosed, match="only it can end it"):
                    hold.settle({})
                hold.__exit__(None, None, None)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        entry = hold.settle(USAGE)

    assert entry.outcome == "answered"
    assert spent(guard) == 10 * 3_300 + 5 * 16_500
