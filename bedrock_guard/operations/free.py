"""
Operations that AWS does not charge for: they pass through, unreserved and unrecorded.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Free:
    """
    An operation without a price. CountTokens is free by AWS's own page on counting tokens.
    """

    name: str
