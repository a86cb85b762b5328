"""
Requests: what AWS bills for by the call, whatever it uses.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain import usage
from bedrock_guard.domain.usage import Meter

# Beside the tokens of whichever model answers: they cost the same with each.
ROUTED: Final = Meter(usage.ROUTED_REQUESTS, "request", per_model=False)
WEB_GROUNDING: Final = Meter(usage.WEB_GROUNDING_REQUESTS, "request", per_model=False)
# Of an operation that AWS bills by none of these: at what the account says that one costs. It is in no
# price list, so it is none of `METERS`.
FLAT_PRICED: Final = Meter("flat_priced_calls", "call", per_model=False)
QUERIES: Final = Meter("queries", "query")
