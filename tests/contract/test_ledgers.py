"""
Every ledger of the table keeps every promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dynamodb_engine
import pytest
from dynamodb_faults import Watched

from bedrock_guard.domain.ledger import Ledger
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.ledgers import LEDGERS, open_ledger
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger
from bedrock_guard.ledgers.leases import LeasedLedger
from bedrock_guard.ledgers.sqlite import SQLiteLedger
from bedrock_guard.testing.ledger_calls import SetClock, answered
from bedrock_guard.testing.ledger_contract import LedgerContract
from bedrock_guard.testing.ledger_line_contract import HOUR, SUB, held, make, refused, rolling

# An empty ledger of each scheme; a new line of LEDGERS needs one here.
URLS: dict[str, Callable[[Path], str]] = {
    "memory": lambda _: "memory://",
    "sqlite": lambda folder: f"sqlite:///{folder}/ledger.db",
    "dynamodb": lambda _: dynamodb_engine.table_url(),
    "dynamodb, leased": lambda _: f"{dynamodb_engine.table_url()}&mode=lease",
}


class TestLedgers(LedgerContract):
    @pytest.fixture(params=sorted({*LEDGERS, *URLS}))
    def ledger(self, request, clock: SetClock, tmp_path: Path) -> Iterator[Ledger]:
        assert request.param in URLS, f"{request.param}:// has no line in URLS, so nothing proves it"
        ledger = open_ledger(URLS[request.param](tmp_path), clock=clock)
        if isinstance(ledger, DynamoDBLedger | LeasedLedger):
            watched = Watched(ledger)  # each request is one that real DynamoDB takes
            ledger.write_control = watched.as_operator(ledger.write_control)  # type: ignore[method-assign]
        yield ledger
        ledger.close()

    @pytest.fixture
    def reopen(self, clock: SetClock) -> Callable[[Ledger], Ledger]:
        def again(ledger: Ledger) -> Ledger:
            if isinstance(ledger, SQLiteLedger):
                return SQLiteLedger(ledger.path, clock=clock)
            if isinstance(ledger, DynamoDBLedger):
                return DynamoDBLedger(ledger._table.address, clock=clock)
            if isinstance(ledger, LeasedLedger):
                return LeasedLedger(ledger._table.address, clock=clock)
            return ledger

        return again

    @pytest.mark.parametrize("back_s", [1, 5 * SUB, HOUR])
    def test_what_rolls_is_not_had_twice_by_a_clock_that_is_set_back(
        self, ledger: Ledger, clock: SetClock, back_s: int
    ) -> None:
        """
        Both would lie in one run of the span.
        """
        spent = held(ledger, clock, "all", rolling(clock, 100))
        ledger.settle(spent, {spent.lines[0].key: 100}, answered("all"))
        clock.now -= back_s

        refused(make(ledger, clock, "more", rolling(clock, 1)))

    def test_a_place_that_no_page_ended_at_is_named(self, ledger: Ledger) -> None:
        """
        A dashboard passes on what stands in its URL.
        """
        from bedrock_guard.domain.entry_filter import EntryFilter

        with pytest.raises(ConfigurationError, match="'nonsense' is no place"):
            ledger.entries(EntryFilter(), after="nonsense")
