"""
LiteLLM's proxy: who asks, told to the calls that it makes of Bedrock.

    a request --async_pre_call_hook--> tags of the task that serves it
                  its calls, retries and fallbacks --httpx--> held for with these tags

The callback settles nothing: what LiteLLM tells its callbacks after a call leaves out what was cancelled, cut
or tried again. The transports below its clients see each request that is sent, and how it ended.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cache
from importlib import import_module
from itertools import islice
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
# Where whoever made a team, a project or a key has given it tags; the last is the strongest.
_GIVEN: Final = ("team_metadata", "project_metadata", "metadata")
# A client may say anything, and each entry of its calls would keep it: what AWS takes as tags is enough.
_MOST_TAGS: Final = 50
_MOST_OF_NAME: Final = 128
_MOST_OF_VALUE: Final = 256


def make_callback(settled: Collection[str] = ()) -> Any:
    """
    What LiteLLM's `callbacks:` takes: tags each request with who asks.

    *settled* are names of tags that no request can say otherwise: those of the settings.

    Raises:
        ConfigurationError: LiteLLM is not installed.
    """
    return _callback_class()(settled)


def read_tags(caller: object, data: object, settled: Collection[str] = ()) -> dict[str, str]:
    """
    The tags of a request: the proxy's own word on who asks, and what the request says of itself.

    *caller* is LiteLLM's `UserAPIKeyAuth`. Of the request's tags, those that are written `name:value` count,
    the first 50; what the proxy knows by itself, what its key or team was given, and what is *settled*,
    cannot be said so. What is long is cut.
    """
    known = {**dict(_read_given(caller)), **dict(_read_own(caller))}
    told = (each for each in _read_said(data) if each[0] not in settled)
    return {**dict(islice(told, _MOST_TAGS)), **known}


def _read_own(caller: object) -> Iterator[tuple[str, str]]:
    for tag, fields in TAGS.items():
        found = next(filter(None, (getattr(caller, field, None) for field in fields)), None)
        if found is not None:
            yield tag, str(found)[:_MOST_OF_VALUE]


def _read_given(caller: object) -> Iterator[tuple[str, str]]:
    # LiteLLM puts these among the request's own as well, in an order that tells nothing.
    for field in _GIVEN:
        yield from _read_written(getattr(caller, field, None))


def _read_said(data: object) -> Iterator[tuple[str, str]]:
    for key in _METADATA:
        yield from _read_written(data.get(key) if isinstance(data, dict) else None)


def _read_written(metadata: object) -> Iterator[tuple[str, str]]:
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    for tag in tags if isinstance(tags, list) else []:
        name, _, value = tag.partition(":") if isinstance(tag, str) else ("", "", "")
        is_free = name not in TAGS and name not in BUILT_IN_TAGS
        if is_free and 0 < len(name) <= _MOST_OF_NAME and value:
            yield name, value[:_MOST_OF_VALUE]


@cache
def _callback_class() -> Any:
    try:
        base: Any = import_module("litellm.integrations.custom_logger").CustomLogger
    except ImportError as error:
        raise ConfigurationError("LiteLLM is not installed: pip install 'litellm[proxy]'.") from error

    class GuardCallback(base):  # type: ignore[misc]
        def __init__(self, settled: Collection[str]) -> None:
            super().__init__()
            self._settled = frozenset(settled)

        async def async_pre_call_hook(self, **asked: Any) -> None:
            stay_tagged(read_tags(asked["user_api_key_dict"], asked.get("data"), self._settled))

    return GuardCallback
