"""
The guard on a client: its handlers, and a net that no call can end without.

A client keeps its identity. Its class is swapped for a subclass of the same
name, because a closure on the instance would hold the client in a cycle.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

from botocore.client import BaseClient

from bedrock_guard.calls.pipeline import Pipeline
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.hooks.aio import AioClientHooks, async_netted_class, is_async_client
from bedrock_guard.hooks.calls import CURRENT, CallState
from bedrock_guard.hooks.events import ClientHooks
from bedrock_guard.hooks.settling import end_open, settle_reply
from bedrock_guard.hooks.streams import named_like
from bedrock_guard.hooks.tagging import TagWriter

_ATTRIBUTE: Final = "_bedrock_guard"
_ONE_AT_A_TIME: Final = threading.Lock()


def attach(client: Any, pipeline: Pipeline, *, owner: object) -> None:
    """
    Put *pipeline* round every call of *client*, in place; the same one twice is once.

    *owner* is who `owners_of` tells of: the guard that the pipeline belongs to.

    Raises:
        ConfigurationError: It is no client, or its service is not one that can be guarded.
    """
    if not isinstance(client, BaseClient):
        raise ConfigurationError(f"{client!r} is no boto3 or botocore client, so it cannot be guarded.")
    with _ONE_AT_A_TIME:
        hooks = hooks_of(client)
        if hooks is None:
            is_async = is_async_client(client)
            hooks = AioClientHooks(client) if is_async else ClientHooks(client)
            hooks.add(pipeline, owner)
            hooks.register(client.meta.events)
            client.__dict__[_ATTRIBUTE] = hooks
            base = type(client)
            netted = async_netted_class(base) if is_async else _netted_class(base)
            client.__class__ = named_like(netted, base)
        else:
            hooks.add(pipeline, owner)
        if pipeline.settings.tags_to_aws:
            _tag_writer(client, hooks).register(client.meta.events)


def detach(client: Any, pipeline: Pipeline) -> None:
    """
    Take *pipeline* off *client*; without any left it is the client that boto3 made.

    Calls under way still end with it.
    """
    with _ONE_AT_A_TIME:
        hooks = hooks_of(client)
        if hooks is None:
            return
        hooks.remove(pipeline)
        if hooks.pipelines:
            return
        hooks.unregister(client.meta.events)
        _tag_writer(client, hooks).unregister(client.meta.events)
        del client.__dict__[_ATTRIBUTE]
        # Where another tool has swapped the class since, ours stays below it, and does nothing.
        if "_is_bedrock_guard" in vars(type(client)):
            client.__class__ = type(client).__bases__[0]


def hooks_of(client: Any) -> ClientHooks | None:
    """
    The handlers on *client*, or None.
    """
    hooks: ClientHooks | None = getattr(client, "__dict__", {}).get(_ATTRIBUTE)
    return hooks


def owners_of(client: Any) -> tuple[object, ...]:
    """
    Whose pipelines are attached to *client*, the first attached first.
    """
    hooks = hooks_of(client)
    return () if hooks is None else tuple(hooks.owners.values())


def _tag_writer(client: Any, hooks: ClientHooks) -> TagWriter:
    return TagWriter(client.meta.service_model.service_name, hooks)


def _netted_class(base: Any) -> Any:
    """
    A subclass of a client's class whose calls cannot end without us.

    Its methods are looked up late, so that what other tools patch into the base still runs.
    """

    class Guarded(base):  # type: ignore[misc]
        _is_bedrock_guard = True

        def _make_api_call(self, operation_name: str, api_params: Mapping[str, Any]) -> Any:
            state = CallState()
            token = CURRENT.set(state)
            try:
                reply = super()._make_api_call(operation_name, api_params)
                # The handlers were taken off under way, or kept from running; as good as never.
                if state.opened and state.is_open:
                    settle_reply(state, reply, 200, None)
            except BaseException as error:
                end_open(state, error)
                raise
            else:
                return reply
            finally:
                CURRENT.reset(token)
                state.is_over = True
                if state.opened:
                    end_open(state, None)

        def _convert_to_request_dict(self, *args: Any, **kwargs: Any) -> Any:
            request = super()._convert_to_request_dict(*args, **kwargs)
            state = CURRENT.get()
            if state is not None and not state.has_begun:
                state.begin(request, kwargs)
            return request

    return Guarded
