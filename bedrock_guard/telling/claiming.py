"""
Which process tells an alert: the one whose claim the ledger takes.

    find       something to tell, unless this process knows that it is told
    claim      in the ledger, and deliver what is ours
    take over  what another process claimed, and did not confirm in a minute
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from bedrock_guard.domain.alert import Alert
from bedrock_guard.domain.alert_claim import AlertClaim
from bedrock_guard.domain.ledger import Clock, Ledger, LedgerKey
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.telling.delivering import Deliveries

log = logging.getLogger("bedrock_guard")

# What is known to be told; who has forgotten asks the ledger once more.
_MOST_KNOWN: Final = 20_000
# A settle may still come for a window that is over.
_REMEMBER_S: Final = 30 * 86_400
# What nobody could deliver in a day is old news.
_NEWS_S: Final = 86_400.0
# What this process could not deliver others try after a minute; it may be the only one.
_FIRST_REST_S: Final = 600.0


class Name(NamedTuple):
    """
    What is told once.
    """

    kind: str
    threshold: float | None
    key: LedgerKey


class Found(NamedTuple):
    """
    Something to tell, unless it is told already.

    Attributes:
        ends_s: When its window ends, seconds since 1970; None for never.
        write: The alert.
    """

    ends_s: int | None
    write: Callable[[], Alert]


class _Tried(NamedTuple):
    """
    An alert that this process has delivered, or could not: when it may be tried again, if nobody confirms it.
    """

    again_at_s: float
    rest_s: float


class Claims:
    """
    Those of one guard.

    Attributes:
        has_others: Whether there may be something to take over: of another process, or what rests here.
    """

    def __init__(self, ledger: Ledger, clock: Clock, deliveries: Deliveries, *, retry_after_s: float) -> None:
        self._ledger = ledger
        self._clock = clock
        self._deliveries = deliveries
        self._retry_after_s = retry_after_s
        self.forget()

    def forget(self) -> None:
        """
        In a fork: what was found is the parent's to tell.
        """
        self._found: dict[Name, Found] = {}
        self._told: set[Name] = set()
        self._tried: dict[str, _Tried] = {}
        self._takes_over_at = 0.0
        self.has_others = False

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def takes_over_in_s(self) -> float:
        """
        The seconds until others' claims are looked at again.
        """
        return self._takes_over_at - time.monotonic()

    def is_told(self, name: Name) -> bool:
        """
        Whether this process knows that somebody tells it, or has nobody to tell.
        """
        return name in self._told or not self._deliveries.has_sinks

    def find(self, name: Name, found: Found) -> None:
        """
        Claim it with the next round, if there is anybody to tell. May be called by a finalizer.
        """
        # Who tells nobody claims nothing: another process may have somebody to tell.
        if not self.is_told(name) and name not in self._found:
            self._found[name] = found

    def claim(self) -> None:
        """
        Claim what was found, and deliver what is ours.

        Raises:
            LedgerUnavailable: The rest stays to be claimed.
        """
        names = list(self._found)  # at once: calls go on finding
        for name in sorted(names, key=_turn):
            if name not in self._told:
                self._claim(name, self._found[name])
                if len(self._told) >= _MOST_KNOWN:
                    self._told.clear()
                self._told.add(name)
            del self._found[name]

    def take_over(self) -> None:
        """
        Tell what other processes have claimed and not confirmed, once their time is over.
        """
        if self.takes_over_in_s > 0 or not self._deliveries.has_sinks:
            return
        self._takes_over_at = time.monotonic() + self._retry_after_s
        claims = self._ledger.unconfirmed_alerts()
        self.has_others = False
        for claim in claims:
            alert, now = _read(claim), self._clock()
            if alert is None:
                continue  # a later version's, and for such to tell
            is_news = now - alert.at.timestamp() < _NEWS_S
            rests = claim.id in self._tried and now < self._tried[claim.id].again_at_s
            if (is_news and rests) or not self._ledger.claim_alert(claim, retry_after_s=self._retry_after_s):
                self.has_others = True
            elif is_news:
                self._deliver(alert, claim)
            else:
                self._ledger.confirm_alert(claim)
                log.warning("An alert that nobody could deliver for a day is dropped: %s", claim.alert)

    def _claim(self, name: Name, found: Found) -> None:
        alert = found.write()
        forget_at_s = None if found.ends_s is None else float(found.ends_s + _REMEMBER_S)
        claim = AlertClaim(alert.id, alert.to_json(), forget_at_s)
        try:
            if self._ledger.claim_alert(claim, retry_after_s=self._retry_after_s):
                self._deliver(alert, claim)
            else:
                self.has_others = True
        except LedgerUnavailable:
            if name.kind != "ledger":
                raise
            self._deliver(alert, None)  # that is what it is about: each process says so

    def _deliver(self, alert: Alert, claim: AlertClaim | None) -> None:
        if len(self._tried) >= _MOST_KNOWN:
            self._tried.clear()
        rest_s = 2 * self._tried[alert.id].rest_s if alert.id in self._tried else _FIRST_REST_S
        self._tried[alert.id] = _Tried(self._clock() + rest_s, rest_s)
        self._deliveries.add(alert, claim)


def _turn(name: Name) -> tuple[bool, bool, float]:
    """
    First that the ledger is gone, as the others will wait for it; then shares as they were reached.
    """
    return name.kind != "ledger", name.kind == "refused", name.threshold or 0.0


def _read(claim: AlertClaim) -> Alert | None:
    try:
        return Alert.from_json(claim.alert)
    except (KeyError, TypeError, ValueError):
        return None
