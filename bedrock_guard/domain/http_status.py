"""
What an HTTP status says of the money.

AWS documents no charge for errors; 4xx and 503 are taken as free, because the request
was turned away before a model ran.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain.entry import AttemptOutcome

# Of the 4xx, these two come from a model that ran; of the 5xx, 503 from a service that did not.
_BILLED_4XX: Final = (408, 424)
_FREE_5XX: Final = (503,)


def outcome_of_status(status: int) -> AttemptOutcome:
    """
    How an attempt ended that was answered with *status*.
    """
    if 200 <= status < 300:
        return "answered"
    if status in _FREE_5XX or (status < 500 and status not in _BILLED_4XX):
        return "rejected"
    return "lost"
