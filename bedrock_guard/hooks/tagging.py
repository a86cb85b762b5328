"""
Tags that travel with a call as its `requestMetadata`, where `tags_to_aws` asks for it.

The parameters are replaced in `provide-client-params`, before botocore looks at them: the caller's
dictionary stays as it was, and what is bounded and sent is what was replaced. botocore takes the first
answer to that event, and ours is given last: beside another tool that answers it, no tags are written.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from bedrock_guard.operations import OPERATIONS, Free, Unmeterable
from bedrock_guard.operations.request_metadata import merge_map, merge_text
from bedrock_guard.planning import Planner

log = logging.getLogger("bedrock_guard")

_EVENT: Final = "provide-client-params.{service}"
_UNIQUE_ID: Final = "bedrock_guard.tags_to_aws"
_PARAMETER: Final = "requestMetadata"
# By the type of the parameter in botocore's model of an operation.
_MERGES: Final = {"map": merge_map, "string": merge_text}
# Names of tags are a caller's strings: without an end the memory of warnings would have none.
_MOST_TOLD: Final = 1000


class HasPlanners(Protocol):
    """
    The hooks of a client: whose tags are sent.
    """

    @property
    def planners(self) -> Sequence[Planner]:
        """
        Of the guards on the client, the first attached first.
        """
        ...


class TagWriter:
    """
    The handler of one client.
    """

    def __init__(self, service: str, hooks: HasPlanners) -> None:
        self._service = service
        self._hooks = hooks
        self._told: set[str] = set()

    def register(self, events: Any) -> None:
        """
        Begin; twice is once.
        """
        events.register_last(_EVENT.format(service=self._service), self.write, unique_id=_UNIQUE_ID)

    def unregister(self, events: Any) -> None:
        """
        Stop, if it ever began.
        """
        events.unregister(_EVENT.format(service=self._service), self.write, unique_id=_UNIQUE_ID)

    def write(self, params: Any, model: Any, **_: Any) -> dict[str, Any] | None:
        """
        provide-client-params: the parameters with tags added; None leaves them as they are.
        """
        operation = OPERATIONS.get((self._service, model.name))
        if operation is None or isinstance(operation, Free | Unmeterable) or not isinstance(params, Mapping):
            return None
        tags: dict[str, str] = {}
        for planner in self._hooks.planners:
            tags.update(planner.tags_to_aws())
        if not tags:
            return None
        shape = model.input_shape.members.get(_PARAMETER)
        if shape is None:
            self._tell(model.name, f"This botocore has no {_PARAMETER} of {model.name}: no tags are sent.")
            return None
        metadata, left_out = _MERGES[shape.type_name](params.get(_PARAMETER), tags)
        for tag, why in left_out.items():
            self._tell(
                f"tag {tag}", f"The tag {tag!r} is left out of what Bedrock is sent, now and later: {why}."
            )
        return None if metadata is None else {**params, _PARAMETER: metadata}

    def _tell(self, what: str, message: str) -> None:
        if what not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(what)
            log.warning("%s", message)
