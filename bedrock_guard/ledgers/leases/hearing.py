"""
Stops and top-ups, as a process on leases goes by them while the table does not answer.
"""

from __future__ import annotations

import time
from typing import Final

from bedrock_guard.domain.control import Controls
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.dynamodb.ledger import DynamoDBLedger

# For so long a table that did not answer is not asked by calls that need nothing else of it.
_GONE_S: Final = 5.0


class Hearing:
    """
    What one process was told last.
    """

    def __init__(self, exact: DynamoDBLedger) -> None:
        self._exact = exact
        self._copy = exact.controls_copy
        self._gone_until = 0.0

    def read(self) -> Controls:
        """
        The record; as it was read last, while the table does not answer: slices may be spent all the same.

        Raises:
            LedgerUnavailable: It was never read.
        """
        last = self._copy.last
        if last is not None and time.monotonic() < self._gone_until:
            return last
        try:
            return self._exact.controls()
        except LedgerUnavailable:
            if last is None:
                raise
            self._gone_until = time.monotonic() + _GONE_S
            return last
