"""
Ids of entries, and of the reservations that they record.
"""

from __future__ import annotations

import os


def new_entry_id(now: float) -> str:
    """
    An id that nobody else has: `"19f3a2b4c5d-0123456789abcdef"`.

    Time first, so that ids sort as calls were opened and stay together in a table. The rest is from the
    operating system each time, for a process may be restored from a snapshot many times over.
    """
    return (int(now * 1000).to_bytes(6, "big") + os.urandom(8)).hex("-", 8)[1:]
