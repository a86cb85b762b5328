"""
What the metrics are called that programs emit and dashboards read.
"""

from __future__ import annotations

from typing import Final

NAMESPACE: Final = "BedrockGuard"

BUDGET_USED_SHARE: Final = "budget_used_share"
REFUSED_CALLS: Final = "refused_calls"
CLAMPED_BALANCES: Final = "clamped_balances"
COST_USD: Final = "cost_usd"
CACHE_HIT_SHARE: Final = "cache_hit_share"
CALLS: Final = "calls"
RESERVED_USD: Final = "reserved_usd"
DURATION_MS: Final = "duration_ms"

DIMENSION_SERVICE: Final = "service"
DIMENSION_BUDGET: Final = "budget"
