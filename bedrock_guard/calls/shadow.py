"""
`mode = "shadow"`: nothing is refused, nothing raised; what would have been leaves entries.

Every choice that would refuse a call is made otherwise (`lenient`), and what the settings that were
wanted would have done is looked at afterwards (`tell`). Calls that the ledger cannot take are let
through, and booked once it is back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from bedrock_guard.budgets.matching import UNTAGGED
from bedrock_guard.budgets.refusing import record_would_refuse
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Clock, Ledger, Line, Reservation
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.books import merge
from bedrock_guard.open_call import OpenCall
from bedrock_guard.plan import Plan
from bedrock_guard.planning import Planner

ALLOWED_BY: Final = "shadow"
"""What the entry of a call says that the ledger could not take, or its retry."""


def lenient(settings: Settings) -> Settings:
    """
    *settings* by which no call is refused or altered; others than of a shadow as they are.
    """
    if settings.mode != "shadow":
        return settings
    on_unpriced = "allow" if settings.on_unpriced == "refuse" else settings.on_unpriced
    return replace(
        settings,
        on_unpriced=on_unpriced,
        on_unmetered="allow",
        untagged="shared",
        max_price_age_days=None,
        tags_to_aws=False,
        clamp="never",
        refine="off",
        stream_cutoff="off",
    )


def tell(ledger: Ledger, planner: Planner, wanted: Settings, plan: Plan, entry: Entry) -> None:
    """
    Leave an entry for each reason, other than a budget, for which the *wanted* settings refuse the call.
    """
    for reason, budget in _reasons(planner, wanted, plan):
        record_would_refuse(ledger, entry, reason=reason, budget=budget)


def tell_unmetered(ledger: Ledger, now: float, service: str, operation: str, region: str) -> None:
    """
    Leave an entry for an operation that may bill and cannot be counted.
    """
    entry = Entry(
        id="",
        at_s=now,
        operation=operation,
        model_id="",
        model=None,
        family="",
        region=region,
        service_tier="default",
        latency="standard",
        tags={"service": service, "operation": operation, "region": region},
    )
    record_would_refuse(ledger, entry, reason="unmetered", budget=None)


def _reasons(planner: Planner, wanted: Settings, plan: Plan) -> Iterator[tuple[str, str | None]]:
    most_days = wanted.max_price_age_days
    is_old = (
        most_days is not None
        and (plan.at.date() - planner.prices.as_of_model(plan.call.model)).days > most_days
    )
    if is_old or (wanted.on_unpriced == "refuse" and plan.nanousd is None):
        yield "unpriced", None
    if wanted.untagged == "refuse":
        for match in plan.matches:
            if any(value == UNTAGGED for _, value in match.key.per):
                yield "untagged", match.budget.name


class ShadowStandIn:
    """
    Lets every call through that the ledger cannot take; `outage.StandIn` does up to an amount.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def hold(self, opened: OpenCall, _: LedgerUnavailable, *, hold_s: float) -> Reservation:
        """
        What the ledger would have held.
        """
        opened.entry = opened.entry.changed(allowed_by=ALLOWED_BY)
        return Reservation(opened.entry.id, tuple(opened.plan.lines()), self._clock() + hold_s)

    def extend(
        self,
        opened: OpenCall,
        lines: Sequence[Line],
        nanousd: int | None,  # noqa: ARG002 - as `StandIn.extend`, which bounds it
        error: LedgerUnavailable | None,  # noqa: ARG002
        *,
        is_retry: bool,  # noqa: ARG002
    ) -> Reservation:
        """
        What the ledger would have held, with *lines*.
        """
        opened.entry = opened.entry.changed(allowed_by=ALLOWED_BY)
        return opened.reservation._replace(lines=merge((*opened.reservation.lines, *lines)), over=())

    def holds(self, opened: OpenCall) -> bool:
        """
        Whether the ledger does not know all that *opened* may cost.
        """
        return opened.entry.allowed_by is not None

    def settle(self, entry: Entry) -> None:
        """
        Nothing is bounded here, so there is nothing to give back.
        """
