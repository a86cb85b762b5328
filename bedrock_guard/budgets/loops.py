"""
Requests that are made again and again, counted in this process alone.

What is kept of a request is a hash, keyed with what only this process knows: nobody can tell by it what was
asked, nor whether another process asked the same.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from bedrock_guard.domain.budget import Period
from bedrock_guard.domain.ledger import LedgerKey

_KEY: Final = os.urandom(32)
# Requests known at a time: more, and those that came longest ago are forgotten.
_MOST_KNOWN: Final = 10_000


def fingerprint(*parts: bytes) -> bytes:
    """
    Tells whether two requests of this process are alike; says nothing else of them.
    """
    digest = blake2b(key=_KEY, digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


class Loops:
    """
    How often each request was made in the window of a period that is running, counted from 1970.
    """

    def __init__(self) -> None:
        # In the order in which they came: the first came longest ago.
        self._known: OrderedDict[tuple[LedgerKey, bytes], tuple[int, int]] = OrderedDict()
        self._lock = threading.Lock()

    def count(self, key: LedgerKey, request: bytes, period: Period, now: float) -> int:
        """
        How often *request* was made in the scope *key*, this time included.
        """
        name, window = (key, request), int(now // period.seconds)
        with self._lock:
            known_window, count = self._known.pop(name, (window, 0))
            count = count + 1 if known_window == window else 1
            if len(self._known) >= _MOST_KNOWN:
                self._known.popitem(last=False)
            self._known[name] = window, count
        return count

    def forget(self, key: LedgerKey, request: bytes) -> None:
        """
        Count *request* from 0 again.
        """
        with self._lock:
            self._known.pop((key, request), None)
