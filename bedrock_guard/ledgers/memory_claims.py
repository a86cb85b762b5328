"""
The alerts that somebody tells, of a ledger in memory.

It keeps the newest of them: with a budget for each user and day there would be no end of them.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Any, Final, NamedTuple

from bedrock_guard.domain.alert_claim import AlertClaim

_MOST: Final = 100_000


class _Claimed(NamedTuple):
    """
    An alert that somebody tells.
    """

    claim: AlertClaim
    at_s: float


class Claims:
    """
    By the id of the alert; whoever asks has the ledger's lock.
    """

    def __init__(self) -> None:
        self._claimed: OrderedDict[str, _Claimed] = OrderedDict()
        self._confirmed: OrderedDict[str, None] = OrderedDict()

    def claim(self, claim: AlertClaim, now: float, retry_after_s: float) -> bool:
        """
        Whether the caller is to tell it.
        """
        known = self._claimed.get(claim.id)
        if claim.id in self._confirmed or (known is not None and now < known.at_s + retry_after_s):
            return False
        self._claimed[claim.id] = _Claimed(claim, now)
        self._claimed.move_to_end(claim.id)
        _drop_oldest(self._claimed)
        return True

    def confirm(self, claim: AlertClaim) -> None:
        """
        It has been told.
        """
        if self._claimed.pop(claim.id, None) is not None:
            self._confirmed[claim.id] = None
            _drop_oldest(self._confirmed)

    def unconfirmed(self, limit: int) -> list[AlertClaim]:
        """
        Those that nobody has told yet, as far as is known; the oldest first, at most *limit*.
        """
        return [known.claim for known in islice(self._claimed.values(), limit)]


def _drop_oldest(kept: OrderedDict[str, Any]) -> None:
    if len(kept) > _MOST:
        kept.popitem(last=False)
