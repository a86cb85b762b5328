"""
Claims of alerts on DynamoDB, whatever the network does to a request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import dynamodb_engine
import dynamodb_faults as faults
import pytest
from botocore.exceptions import ClientError
from dynamodb_faults import Fault, Watched

from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger, table
from bedrock_guard.testing.ledger_alert_contract import HALF, WHOLE
from bedrock_guard.testing.ledger_calls import SetClock


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def ledger(clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[DynamoDBLedger]:
    monkeypatch.setattr(table, "_LONGEST_SLEEP_S", 0.001)
    ledger = DynamoDBLedger.open(dynamodb_engine.table_url(), clock=clock)
    yield ledger
    ledger.close()


@pytest.mark.parametrize(
    "fault",
    [
        faults.lose_answer,
        faults.lose_answer_and_token,
        faults.lose_request,
        faults.send_twice,
        faults.conflict,
        faults.throttle,
        faults.fail_inside,
    ],
)
def test_who_did_not_hear_that_it_won_has_won_all_the_same(ledger: DynamoDBLedger, fault: Fault) -> None:
    """
    It would take its own claim for another's, and nobody would tell for a minute.
    """
    watched = Watched(ledger, iter([fault]))

    assert ledger.claim_alert(HALF)
    assert not ledger.claim_alert(HALF)
    watched.faults = iter([fault])
    ledger.confirm_alert(HALF)
    assert ledger.unconfirmed_alerts() == []


@pytest.mark.parametrize("when", ["before it is told", "after"])
def test_a_claim_that_arrives_late_lists_nothing_again(ledger: DynamoDBLedger, when: str) -> None:
    """
    What is told would be found for ever, and nobody could claim it.
    """
    delay = faults.Delay()
    Watched(ledger, iter([delay]))
    assert ledger.claim_alert(HALF)
    if when == "after":
        ledger.confirm_alert(HALF)
        delay.arrive()
    else:
        delay.arrive()
        ledger.confirm_alert(HALF)

    assert ledger.unconfirmed_alerts() == []
    assert not ledger.claim_alert(HALF)


def test_a_claim_that_arrives_after_its_process_gave_up_is_taken_over(
    ledger: DynamoDBLedger, clock: SetClock
) -> None:
    """
    Nobody tells it before, and nobody is sure that nobody does.
    """
    delay = faults.Delay()
    watched = Watched(ledger, iter([delay]))
    watched.is_over = False
    original = watched.within
    watched.within = lambda seconds: None if delay.late else original(seconds)  # type: ignore[method-assign]
    with pytest.raises(LedgerUnavailable) as raised:
        ledger.claim_alert(HALF)
    assert raised.value.outcome == "unknown"
    watched.within = original  # type: ignore[method-assign]
    delay.arrive()

    assert not ledger.claim_alert(HALF)
    assert ledger.unconfirmed_alerts() == [HALF]
    clock.now += 60
    assert ledger.claim_alert(HALF)


def test_a_claim_is_one_request_and_so_is_to_look_for_those_of_others(ledger: DynamoDBLedger) -> None:
    """
    Each process asks once a minute.
    """
    watched = Watched(ledger)
    for claim in (HALF, WHOLE):
        ledger.claim_alert(claim)
    ledger.confirm_alert(HALF)
    ledger.unconfirmed_alerts()

    assert watched.sent == [*["transact_write_items"] * 3, "batch_get_item"]


def test_a_claim_ages_with_its_window(ledger: DynamoDBLedger) -> None:
    """
    Those of a window that never ends are kept; DynamoDB deletes the others some day.
    """
    from bedrock_guard.ledgers.dynamodb import items, reading

    for claim in (HALF, WHOLE):
        ledger.claim_alert(claim)
    found = reading.get_all(ledger._table, [items.place_of_claim(claim.id) for claim in (HALF, WHOLE)])

    assert sorted(item.get("ttl", {}).get("N", "") for item in found) == ["", str(int(HALF.forget_at_s or 0))]


def test_a_list_that_is_full_keeps_nobody_from_telling(ledger: DynamoDBLedger) -> None:
    """
    A receiver that is away for a day leaves thousands, and an item has 400 KB.
    """

    def refuse(send: Callable[[], Any], operation: str, params: dict[str, Any]) -> Any:
        reasons = [
            {"Code": "None"},
            {
                "Code": "ValidationError",
                "Message": "Item size to update has exceeded the maximum allowed size",
            },
        ]
        error = {"Code": "TransactionCanceledException", "Message": "See the reasons"}
        raise ClientError({"Error": error, "CancellationReasons": reasons}, operation)  # type: ignore[typeddict-item, typeddict-unknown-key]

    watched = Watched(ledger, iter([refuse, None, refuse, None]))
    assert ledger.claim_alert(HALF)
    assert not ledger.claim_alert(HALF)
    assert ledger.unconfirmed_alerts() == []
    watched.faults = None
    ledger.confirm_alert(HALF)
    assert not ledger.claim_alert(HALF)
