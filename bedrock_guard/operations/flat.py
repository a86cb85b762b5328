"""
Which operations a flat price may be set for: those whose usage is not told, and those not known yet.
"""

from __future__ import annotations

from collections.abc import Iterable

from bedrock_guard.errors import ConfigurationError
from bedrock_guard.operations import METERED, OPERATIONS, Free


def check_flat_keys(keys: Iterable[str]) -> None:
    """
    Look at the names in `flat_prices`, each `"service:Operation"`.

    Raises:
        ConfigurationError: One names an operation that is free, or metered by what it used.
    """
    for key in keys:
        service, _, name = key.partition(":")
        operation = OPERATIONS.get((service, name))
        if isinstance(operation, Free):
            raise ConfigurationError(f"flat_prices names {key!r}, which is free; leave it out.")
        if (service, name) in METERED and not getattr(operation, "takes_flat_price", False):
            raise ConfigurationError(
                f"flat_prices names {key!r}, which is metered by what each call uses; leave it out, or name "
                "a price of its meters under [prices]."
            )
