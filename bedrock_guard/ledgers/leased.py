"""
Which ledger a `dynamodb://` URL names: one that writes every call (`mode=exact`), or one on leases.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bedrock_guard.errors import ConfigurationError
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.ledgers.dynamodb.ledger import DynamoDBLedger

if TYPE_CHECKING:
    from bedrock_guard.domain.ledger import Clock, Ledger

# Where Lambda has the extensions of a function's layers.
EXTENSIONS: Final = Path("/opt/extensions")


class DynamoDBLedgers:
    """
    Opens the one or the other.
    """

    blocking = True

    @classmethod
    def open(cls, url: str, *, clock: Clock) -> Ledger:
        """
        The ledger in the table that *url* names; `create_table` makes one.

        Raises:
            ConfigurationError: Leases are not for this place.
        """
        address = read_address(url)
        if address.mode == "exact":
            return DynamoDBLedger(address, clock=clock)
        check_place(url)
        from bedrock_guard.ledgers.leases import LeasedLedger  # noqa: PLC0415  (imported on use)

        return LeasedLedger(address, clock=clock)


def check_place(url: str) -> None:
    """
    See that this process is told before it ends.

    Raises:
        ConfigurationError: It is a Lambda function without an extension.
    """
    if "AWS_LAMBDA_FUNCTION_NAME" not in os.environ:
        return
    if EXTENSIONS.is_dir() and any(EXTENSIONS.iterdir()):
        return
    raise ConfigurationError(
        f"{url!r}: mode=lease is not for a Lambda function without an extension. Lambda ends the "
        "environments of such a function without a word (SIGTERM is for those with extensions), and whatever "
        "they had leased would be charged as if it were spent. Add a layer with an extension, such as Lambda "
        "Insights, or write mode=exact."
    )
