"""
Requests: what AWS bills for by the call, whatever it uses.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.domain import usage
from bedrock_guard.domain.usage import Meter

# Beside the tokens of whichever model answers.
ROUTED: Final = Meter(usage.ROUTED_REQUESTS, "request")
