"""
The cap holds for any number of threads and processes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.testing.bedrock_server import BedrockServer, converse_reply, delay, error

from .conftest import HELLO, NOVA, SONNET, Guarded

ADMITTED = 50


def full_price(server: BedrockServer, guard: Guard) -> Decimal:
    """
    Make every call cost exactly its estimate, so that the admitted ones use the budget up.
    """
    estimate = guard.estimate("Converse", **HELLO)
    server.always(converse_reply(input_tokens=estimate.usage["input_tokens"], output_tokens=100))
    return estimate.cost or Decimal(0)


def test_a_hundred_threads_cannot_overspend(
    make_guarded: Callable[..., Guarded], server: BedrockServer
) -> None:
    """
    Check-then-add lets all of a hundred parallel calls pass; each fits alone, not together.
    """
    cost = full_price(server, make_guarded("1 USD").guard)
    guarded = make_guarded(f"{cost * ADMITTED} USD")
    limit, over, done = cost * ADMITTED, [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            row = guarded.guard.status()[0]
            if row.spent + row.pending > limit:
                over.append(row)

    def call(_: int) -> bool:
        try:
            guarded.client.converse(**HELLO)
        except BudgetExceeded:
            return False
        return True

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(100) as pool:
        admitted = sum(pool.map(call, range(100)))
    done.set()
    watcher.join()

    assert admitted == ADMITTED
    assert over == []
    assert guarded.spent_nanousd == server.bill.nanousd == int(limit * 10**9)
    assert guarded.pending == [0]


def test_four_processes_on_one_file_cannot_overspend(
    server: BedrockServer, make_guarded: Callable[..., Guarded], tmp_path: Path
) -> None:
    """
    Workers of one host share a budget through one SQLite file.
    """
    cost = full_price(server, make_guarded("1 USD").guard)
    limit = cost * ADMITTED
    ledger = f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    program = textwrap.dedent(
        f"""
        import json, boto3
        from concurrent.futures import ThreadPoolExecutor
        from bedrock_guard import BudgetExceeded, Guard
        guard = Guard(budget="{limit} USD", ledger={ledger!r})
        client = guard.attach(boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url={server.url!r}))
        def call(_):
            try:
                client.converse(**{HELLO!r})
            except BudgetExceeded:
                return 0
            return 1
        with ThreadPoolExecutor(8) as pool:
            print(json.dumps(sum(pool.map(call, range(25)))))
        guard.close()
        """
    )
    workers = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    reader, over = Guard(budget=f"{limit} USD", ledger=ledger), []
    while any(worker.poll() is None for worker in workers):
        row = reader.status()[0]
        if row.spent + row.pending > limit:
            over.append(row)
    admitted = [json.loads(worker.communicate()[0]) for worker in workers]

    assert sum(admitted) == ADMITTED
    assert over == []
    row = reader.status()[0]
    assert (row.pending, row.spent) == (0, limit)
    assert server.bill.nanousd == int(limit * 10**9)
    assert sum(1 for entry in reader.entries(outcome="answered")) == ADMITTED
    reader.close()


def test_two_holds_that_fit_alone_but_not_together(
    make_guarded: Callable[..., Guarded], server: BedrockServer
) -> None:
    """
    What is pending counts as if it were spent, at the exact boundary too.
    """
    cost = full_price(server, make_guarded("1 USD").guard)
    guarded = make_guarded(f"{cost * 2 - Decimal('0.000000001')} USD")
    server.will_answer(delay(0.5))
    first = threading.Thread(target=lambda: guarded.client.converse(**HELLO))
    first.start()
    while not guarded.server.requests:
        time.sleep(0.01)

    with pytest.raises(BudgetExceeded, match=r"\(1 call\)") as caught:
        guarded.client.converse(**HELLO)

    assert caught.value.pending == cost
    first.join()
    assert guarded.pending == [0]


def test_lost_answers_hold_and_charge_each_attempt(
    make_guarded: Callable[..., Guarded], server: BedrockServer
) -> None:
    """
    One call is up to three billed requests; a budget for two stops the third.
    """
    from bedrock_guard.testing.bedrock_server import lost_answer

    cost = make_guarded("1 USD").guard.estimate("Converse", **HELLO).cost
    assert cost is not None
    guarded = make_guarded(f"{cost * 2} USD")
    server.always(lost_answer())

    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**HELLO)

    assert type(caught.value.__cause__).__name__ == "ConnectionClosedError"
    assert server.bill.requests == 2
    entry = next(guarded.guard.entries(outcome="lost"))
    assert [attempt.outcome for attempt in entry.attempts] == ["lost", "lost"]
    assert guarded.spent_nanousd == int(cost * 2 * 10**9) >= server.bill.nanousd
    assert guarded.pending == [0]


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
def test_a_retry_that_is_refused_says_what_the_answer_before_was(
    make_guarded: Callable[..., Guarded], server: BedrockServer, mode: str
) -> None:
    """
    Botocore raises nothing for an answer that it tries again: without a cause nobody would learn of it.
    """
    cost = make_guarded().guard.estimate("Converse", **HELLO).cost
    guarded = make_guarded(f"{cost * 3 / 2:.9f} USD", config={"retries": {"mode": mode}})
    server.always(error(500))

    with pytest.raises(BudgetExceeded) as caught:
        guarded.client.converse(**HELLO)

    assert isinstance(caught.value.__cause__, ClientError)
    assert "(InternalServerException) when calling the Converse operation" in str(caught.value.__cause__)
    assert len(server.requests) == 1
    assert guarded.pending == [0]


def test_many_models_and_sizes_add_up_to_the_bill(
    make_guarded: Callable[..., Guarded], server: BedrockServer
) -> None:
    """
    The sum over a mixed load, to the nano-dollar.
    """
    guarded = make_guarded(budgets=["usd: 5 USD/day", "calls: 1000 requests/day"])

    def call(number: int) -> None:
        model = (SONNET, NOVA)[number % 2]
        messages: Any = [{"role": "user", "content": [{"text": "word " * (number * 7)}]}]
        arguments = {"modelId": model, "messages": messages, "inferenceConfig": {"maxTokens": number + 1}}
        if number % 3:
            list(guarded.client.converse_stream(**arguments)["stream"])
        else:
            guarded.client.converse(**arguments)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(60)))

    assert guarded.spent_nanousd == server.bill.nanousd
    assert guarded.guard.status()[1].spent == server.bill.requests == 60
    assert guarded.pending == [0, 0]
