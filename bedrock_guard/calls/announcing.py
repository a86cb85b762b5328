"""
What alerts are told as calls are refused, and when a call waits for them to be sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from bedrock_guard.budgets.matching import Match
from bedrock_guard.calls.outage import Outage
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Refusal
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.invocations import Invocations
from bedrock_guard.telling.noticing import PROMPT_S, Alerts


class Announcer:
    """
    Tells the alerts of one guard, where it has any.

    Attributes:
        tells_first: Whether the process may freeze with the reply, so that alerts go before it.
    """

    def __init__(
        self, alerts: Alerts | None, *, tells_first: bool, invocations: Invocations, outage: Outage
    ) -> None:
        self._alerts = alerts
        self.tells_first = tells_first and alerts is not None
        self._invocations = invocations
        self._outage = outage

    def wait(self) -> None:
        """
        Wait for alerts, where this process may freeze with the reply; a decorated handler does so itself.

        Not for a ledger that is gone: the next call may wait for it.
        """
        is_awaited = self.tells_first and not self._invocations.are_any and not self._outage.is_on
        if self._alerts is not None and is_awaited:
            self._alerts.flush(PROMPT_S, asks_again=False)

    def see_trouble(self, error: LedgerUnavailable) -> None:
        """
        The ledger could not take a call, and has taken the one before.
        """
        if self._alerts is not None:
            self._alerts.see_trouble(error)
            self.wait()

    def see_stopped(self, entry: Entry) -> None:
        """
        The call of *entry* met a stop.
        """
        if self._alerts is not None:
            self._alerts.see_stopped(entry)
            self.wait()

    def see_refused(self, matches: Sequence[Match], refusal: Refusal, entry: Entry) -> None:
        """
        The call of *entry* did not fit.
        """
        if self._alerts is not None:
            self._alerts.see_refused(matches, refusal, entry)
            self.wait()
