"""
What a LiteLLM proxy names in its config.yaml, and has budgets round every call that it makes of Bedrock.

    litellm_settings:
      callbacks: bedrock_guard.litellm.guard_callback

Budgets and ledger are those of the settings: BEDROCK_GUARD_CONFIG, or `bedrock-guard.toml` in the folder that
the proxy is started in. Where they cannot be understood the proxy does not start.
"""

from __future__ import annotations

import atexit
from collections.abc import Collection
from functools import cache
from typing import Any

from bedrock_guard.api import guard_process
from bedrock_guard.hooks.httpx_process import guard_transports
from bedrock_guard.hooks.litellm import make_callback
from bedrock_guard.hooks.litellm_native import close_native_ways
from bedrock_guard.wiring import Guard

__all__ = ["guard_callback", "guard_proxy"]

guard_callback: Any


def guard_proxy(guard: Guard, *, region: str | None = None, hosts: Collection[str] = ()) -> Any:
    """
    Put *guard* round what this process asks of Bedrock, and return the callback that tells it who asks.

    For a module of one's own, with a `Guard` made in Python, that config.yaml names in the place of this one.
    *region* and *hosts* are those of `GuardTransport`, for gateways.

    Raises:
        ConfigurationError: LiteLLM is not installed.
    """
    callback = make_callback(guard.resolved.tags)
    guard_transports(guard, region=region, hosts=hosts, refusals="reply")
    close_native_ways(guard)
    guard_process(guard=guard)
    atexit.register(guard.close)
    return callback


def __getattr__(name: str) -> Any:
    # Not at the import: whoever looks at this module for its names opens no ledger.
    if name == "guard_callback":
        return _guard_callback()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _guard_callback() -> Any:
    return guard_proxy(Guard())
