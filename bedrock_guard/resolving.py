"""
What a request asks for, where its model id does not say: by the settings, or by who may be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from bedrock_guard.domain.call import Call, ModelRef
from bedrock_guard.operations import Operation
from bedrock_guard.planning import Planner

LookUp: TypeAlias = Callable[[ModelRef], Sequence[ModelRef]]
"""What may be behind an opaque model id; nothing where it is not known."""


def read_call(
    planners: Sequence[Planner],
    operation: Operation,
    params: Mapping[str, Any],
    *,
    region: str,
    look_up: LookUp = lambda _: (),
) -> Call:
    """
    What a request asks for. A model that its id does not tell is the one that a planner's settings
    name, else, where they allow it, what *look_up* finds: several for a prompt router.
    """
    call = operation.read_call(params, region=region)
    if call.model.model is not None:
        return call
    return resolve(planners, operation, params, call, region=region, look_up=look_up)


def resolve(
    planners: Sequence[Planner],
    operation: Operation,
    params: Mapping[str, Any],
    call: Call,
    *,
    region: str,
    look_up: LookUp,
) -> Call:
    """
    *call*, as it was read of *params*, where its model id does not tell the model.
    """
    for planner in planners:
        named = planner.resolve(call.model)
        if named is not None:
            return _behind(operation, params, region, named)
    for planner in planners:
        found = look_up(call.model) if planner.settings.resolve_profiles == "lookup" else ()
        if found:
            calls = tuple([_behind(operation, params, region, model) for model in found])
            return calls[0] if len(calls) == 1 else calls[0]._replace(routes=calls)
    return call


def _behind(operation: Operation, params: Mapping[str, Any], region: str, model: ModelRef) -> Call:
    call = operation.read_call(params, region=region, model=model)
    if model.kind != "prompt":
        return call
    # What the prompt says is not in the request, and it may mark what it says for caching.
    return call._replace(size=call.size._replace(writes_cache="1h"))
