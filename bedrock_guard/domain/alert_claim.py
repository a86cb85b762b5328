"""
Which process tells an alert: a ledger says so.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

RETRY_AFTER_S: Final = 60.0
"""How long a claim is its process's own: one that is not confirmed by then is anybody's."""


class AlertClaim(NamedTuple):
    """
    That a process tells an alert.

    Attributes:
        id: The alert's.
        alert: Its JSON, for who takes it over.
        forget_at_s: From when on nobody would tell it again; None for never.
    """

    id: str
    alert: str
    forget_at_s: float | None = None


class ClaimsAlerts(Protocol):
    """
    The part of a `Ledger` by which one process of all tells an alert.

        unknown --claim--> claimed --confirm--> confirmed
                              └---- after a minute: claimed by another

    So it is told at least once, and twice only if a process dies between telling and confirming.
    """

    def claim_alert(self, claim: AlertClaim, *, retry_after_s: float = RETRY_AFTER_S) -> bool:
        """
        Whether the caller is to tell it: nobody has claimed it, or not confirmed it in *retry_after_s*.
        """
        ...

    def confirm_alert(self, claim: AlertClaim) -> None:
        """
        It has been told; the same again changes nothing, nor does one that nobody has claimed.
        """
        ...

    def unconfirmed_alerts(self, *, limit: int = 100) -> list[AlertClaim]:
        """
        Claims that are not confirmed, however old; at most *limit*.
        """
        ...
