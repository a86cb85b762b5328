"""
The alerts that somebody tells, of a ledger in memory.
"""

from __future__ import annotations

from typing import NamedTuple

from bedrock_guard.domain.alert_claim import AlertClaim


class _Claimed(NamedTuple):
    """
    An alert that somebody tells, or has told.
    """

    claim: AlertClaim
    at_s: float
    is_confirmed: bool = False


class Claims:
    """
    By the id of the alert; whoever asks has the ledger's lock.
    """

    def __init__(self) -> None:
        self._claimed: dict[str, _Claimed] = {}

    def claim(self, claim: AlertClaim, now: float, retry_after_s: float) -> bool:
        """
        Whether the caller is to tell it.
        """
        known = self._claimed.get(claim.id)
        if known is not None and (known.is_confirmed or now < known.at_s + retry_after_s):
            return False
        for id_, old in list(self._claimed.items()):
            if old.claim.forget_at_s is not None and old.claim.forget_at_s < now:
                del self._claimed[id_]
        self._claimed[claim.id] = _Claimed(claim, now)
        return True

    def confirm(self, claim: AlertClaim) -> None:
        """
        It has been told.
        """
        known = self._claimed.get(claim.id)
        if known is not None:
            self._claimed[claim.id] = known._replace(is_confirmed=True)

    def unconfirmed(self) -> list[AlertClaim]:
        """
        Those that nobody has told yet, as far as is known.
        """
        return [known.claim for known in self._claimed.values() if not known.is_confirmed]
