"""
aiobotocore clients: told apart from sync ones, and never let through unguarded.
"""

from __future__ import annotations

from typing import Any, NoReturn

from bedrock_guard.errors import ConfigurationError


def is_async_client(client: Any) -> bool:
    """
    Whether *client* is aiobotocore's; without importing it.
    """
    return any(base.__module__.partition(".")[0] == "aiobotocore" for base in type(client).__mro__)


def refuse_every_call(client: Any) -> None:
    """
    Make each call of *client* raise before it is sent.
    """

    def refuse(**_: Any) -> NoReturn:
        raise ConfigurationError(
            "aiobotocore clients cannot be guarded yet, and this process lets no Bedrock call go unguarded. "
            "Use a boto3 client (in asyncio.to_thread), or take guard_process() off."
        )

    client.meta.events.register_first("before-call.*.*", refuse, unique_id="bedrock_guard.refuse_async")
