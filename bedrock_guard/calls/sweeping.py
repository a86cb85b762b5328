"""
What is swept as calls come by: reservations of processes that died, and entries that are old.
"""

from __future__ import annotations

import logging
from typing import Final

from bedrock_guard.background import BACKGROUND
from bedrock_guard.domain.ledger import Clock, Ledger, SweepReport
from bedrock_guard.domain.ledger_options import DropsEntries, KeepsEntries
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.telling.noticing import Alerts

log = logging.getLogger("bedrock_guard")

_SWEEP_EVERY_S: Final = 60.0
# At most one refusal in so many seconds looks for the holds of dead processes first.
_REFUSED_SWEEP_S: Final = 5.0
# So many old entries are dropped in a sweep, a fraction of a second's work; the next comes sooner then.
_DROPPED: Final = 1000
_MORE_DROPS_S: Final = 5.0
_DAY_S: Final = 86_400.0


class Sweeper:
    """
    Sweeps the ledger of one guard.

    Attributes:
        due_at: When `sweep_if_due` has something to do.
    """

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        *,
        keep_entries_days: int | None = None,
        alerts: Alerts | None = None,
    ) -> None:
        self._ledger = ledger
        self._alerts = alerts
        self._clock = clock
        self._keep_entries_s = None if keep_entries_days is None else keep_entries_days * _DAY_S
        if isinstance(ledger, KeepsEntries):
            ledger.keep_entries(self._keep_entries_s)
        self._is_closed = False
        # At once: a process that lives for seconds only is one who comes next, too.
        self.due_at = self._sweeps_at = self._drops_at = 0.0

    def sweep_if_due(self, now: float) -> None:
        """
        End the reservations of dead processes, about once a minute.
        """
        if now >= self._sweeps_at:
            self._sweep(now)
        if now >= self._drops_at:
            self._drop_due(now)
        self.due_at = min(self._sweeps_at, self._drops_at)

    def sweep_early(self) -> None:
        """
        Sweep in the background, now, so that the first call need not: on a network that is many
        requests. Somebody must be kept there.
        """
        BACKGROUND.soon(self._sweep_early)

    def _sweep_early(self) -> None:
        if not self._is_closed:
            self.sweep_if_due(self._clock())

    def sweep_for_room(self, now: float) -> bool:
        """
        Whether a sweep before a refusal has ended anything; not more often than every few seconds.
        """
        if now < self._sweeps_at - _SWEEP_EVERY_S + _REFUSED_SWEEP_S:
            return False
        report = self._sweep(now)
        return bool(report.charged or report.released)

    def sweep_all(self) -> SweepReport:
        """
        End every reservation whose process is taken for dead.
        """
        charged = released = 0
        while True:
            report = self._ledger.sweep(now=self._clock())
            self._see_swept(report)
            charged, released = charged + report.charged, released + report.released
            if not (report.charged or report.released):
                break
        while self._drop_old(self._clock()) == _DROPPED:
            pass
        return SweepReport(charged, released)

    def close(self) -> None:
        """
        Sweep nothing any more in the background: the ledger is about to be closed.
        """
        self._is_closed = True

    def _sweep(self, now: float) -> SweepReport:
        self._sweeps_at = now + _SWEEP_EVERY_S
        try:
            report = self._ledger.sweep(now=now)
        except LedgerUnavailable as error:
            log.warning("Reservations of dead processes could not be swept: %s", str(error))
            return SweepReport()
        self._see_swept(report)
        return report

    def _see_swept(self, report: SweepReport) -> None:
        if self._alerts is not None and report.keys:
            self._alerts.see_charged(report.keys)

    def _drop_due(self, now: float) -> None:
        self._drops_at = now + _SWEEP_EVERY_S
        try:
            if self._drop_old(now) == _DROPPED:
                self._drops_at = now + _MORE_DROPS_S
        except LedgerUnavailable as error:
            log.warning("Old entries could not be dropped: %s", str(error))

    def _drop_old(self, now: float) -> int:
        if self._keep_entries_s is None or not isinstance(self._ledger, DropsEntries):
            return 0
        return self._ledger.drop_entries(before=now - self._keep_entries_s, limit=_DROPPED)
