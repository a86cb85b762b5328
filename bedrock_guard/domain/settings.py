"""
What the pipeline may be told, frozen; `config` makes it from files, environment and arguments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bedrock_guard.domain.ledger import OnExpiry


@dataclass(frozen=True, slots=True)
class Settings:
    """
    How a guard decides where a rule leaves a choice.

    Attributes:
        on_unpriced: What becomes of calls of models without a price: `"refuse"`; `"allow"` (they
            count in requests and tokens, and cost None); `"upper_bound"` (they cost the
            dearest price of the list).
        on_unmetered: Whether to `"refuse"` or `"allow"` operations that bill and cannot be counted.
        on_lost_reply: Whether to `"charge"` an attempt whose answer was lost, at its estimate, or
            to `"release"` it.
        on_expiry: What becomes of the reservation of a process that died.
        untagged: What becomes of a call without a tag that a `per` budget needs: `"shared"`
            puts it on one balance with others like it, `"refuse"` refuses it.
        time_zone: IANA name; calendar windows are aligned in it.
        hold_s: Seconds a reservation lives without news of its process; None: (connect +
            read time-out) x attempts of the client + 60, and at least 300.
    """

    on_unpriced: Literal["refuse", "allow", "upper_bound"] = "refuse"
    on_unmetered: Literal["refuse", "allow"] = "refuse"
    on_lost_reply: Literal["charge", "release"] = "charge"
    on_expiry: OnExpiry = "charge"
    untagged: Literal["shared", "refuse"] = "shared"
    time_zone: str = "UTC"
    hold_s: float | None = None
