"""
A flat price: what one call of an operation costs that AWS does not meter by its reply.

    [flat_prices]
    "bedrock-agentcore:InvokeAgentRuntime" = "0.02 USD"
    "bedrock-agent-runtime:GenerateQuery" = "free"
"""

from __future__ import annotations

import re
from typing import Final

from bedrock_guard.domain.price_rule import parse_price_rule
from bedrock_guard.domain.services import SERVICES
from bedrock_guard.errors import ConfigurationError

_NAME: Final = re.compile("[A-Z][A-Za-z0-9]*")


def parse_flat_price(key: str, text: str) -> int:
    """
    The price of one call, in steps of 1e-16 USD; *key* is `"service:Operation"`.

    Raises:
        ConfigurationError: *key* names no operation of a guarded service, or *text* no amount.
    """
    service, _, name = key.partition(":")
    if service not in SERVICES or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{key!r} names no operation; write it as 'bedrock-agentcore:InvokeAgentRuntime'. "
            f"Services are {', '.join(SERVICES)}."
        )
    if "%" in text:
        raise ConfigurationError(f'{text!r} is no flat price; write "0.02 USD" (a call) or "free".')
    return parse_price_rule(key, "flat_priced_calls", text, unit="call").value
