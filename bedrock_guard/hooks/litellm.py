"""
LiteLLM's proxy: who asks, told to the calls that it makes of Bedrock.

    a request --async_pre_call_hook--> tags of the task that serves it
                  its calls, retries and fallbacks --httpx--> held for with these tags

The callback settles nothing: what LiteLLM tells its callbacks after a call leaves out what was cancelled, cut
or tried again. The transports below its clients see each request that is sent, and how it ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final

from bedrock_guard.context import stay_tagged
from bedrock_guard.domain.budget import BUILT_IN_TAGS
from bedrock_guard.errors import ConfigurationError

# A tag, and where the proxy says it: the first that is there.
TAGS: Final[Mapping[str, tuple[str, ...]]] = {
    "key": ("key_alias", "token"),
    "key_id": ("token",),
    "team": ("team_alias", "team_id"),
    "team_id": ("team_id",),
    "user": ("user_id",),
    "org": ("organization_alias", "org_id"),
    "end_user": ("end_user_id",),
}
# Where a request has its metadata, by its route.
_METADATA: Final = ("metadata", "litellm_metadata")


def make_callback() -> Any:
    """
    What LiteLLM's `callbacks:` takes: tags each request with who asks.

    Raises:
        ConfigurationError: LiteLLM is not installed.
    """
    return _callback_class()()


def read_tags(caller: object, data: object) -> dict[str, str]:
    """
    The tags of a request: the proxy's own word on who asks, and what the request says of itself.

    *caller* is LiteLLM's `UserAPIKeyAuth`. Of the request's tags, those that are written `name:value` count;
    one that the proxy knows by itself cannot be said so.
    """
    own = dict(_read_own(caller))
    said = {name: value for name, value in _read_said(data) if name not in TAGS and name not in BUILT_IN_TAGS}
    return {**said, **own}


def _read_own(caller: object) -> Iterator[tuple[str, str]]:
    for tag, fields in TAGS.items():
        found = next(filter(None, (getattr(caller, field, None) for field in fields)), None)
        if found is not None:
            yield tag, str(found)


def _read_said(data: object) -> Iterator[tuple[str, str]]:
    for key in _METADATA:
        metadata = data.get(key) if isinstance(data, dict) else None
        tags = metadata.get("tags") if isinstance(metadata, dict) else None
        for tag in tags if isinstance(tags, list) else []:
            name, _, value = tag.partition(":") if isinstance(tag, str) else ("", "", "")
            if name and value:
                yield name, value


@cache
def _callback_class() -> Any:
    try:
        base: Any = import_module("litellm.integrations.custom_logger").CustomLogger
    except ImportError as error:
        raise ConfigurationError("LiteLLM is not installed: pip install 'litellm[proxy]'.") from error

    class GuardCallback(base):  # type: ignore[misc]
        async def async_pre_call_hook(self, **asked: Any) -> None:
            stay_tagged(read_tags(asked["user_api_key_dict"], asked.get("data")))

    return GuardCallback
