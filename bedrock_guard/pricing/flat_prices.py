"""
Flat prices: what a call of an operation costs, as the account says, whose usage nothing tells.

    flat_prices = { "bedrock-agentcore:InvokeAgentRuntime" = "0.02 USD" }
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bedrock_guard.domain.usage import Usage
from bedrock_guard.meters.requests import FLAT_PRICED
from bedrock_guard.pricing.unit_prices import PriceBand, UnitPrices

ONE_CALL: Final[Usage] = {FLAT_PRICED.name: 1}
"""What a call uses that is charged by its name."""


def read_flat_prices(steps: Mapping[str, int]) -> dict[str, UnitPrices]:
    """
    Unit prices by `"service:Operation"`, of amounts in steps of 1e-16 USD.
    """
    return {
        key: UnitPrices(key, "any", None, "any", "any", (PriceBand(0, {FLAT_PRICED.name: each}),))
        for key, each in steps.items()
    }
