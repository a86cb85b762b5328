"""
Clients that a session makes later, each attached as it is born.

No event of botocore carries a new client, but `creating-client-class` lets its
class be given one more base, whose `__init__` has the client in hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bedrock_guard.errors import ConfigurationError
from bedrock_guard.operations import SERVICES


def attach_session(session: Any, attach_client: Callable[[Any], object], *, unique_id: str) -> None:
    """
    Call *attach_client* with every client of a guarded service that *session* makes later.

    *session* is boto3's, botocore's or aiobotocore's. The same *unique_id* twice is once.
    """
    if not hasattr(session, "events") and not hasattr(session, "get_component"):
        raise ConfigurationError(f"{session!r} is no boto3, botocore or aiobotocore session.")
    events = session.events if hasattr(session, "events") else session.get_component("event_emitter")

    def add_base(base_classes: list[type], **_: Any) -> None:
        base_classes.insert(0, _attached_at_birth(attach_client))

    for service in SERVICES:
        events.register_last(
            f"creating-client-class.{service}", add_base, unique_id=f"bedrock_guard.{unique_id}.{service}"
        )


def _attached_at_birth(attach_client: Callable[[Any], object]) -> type:
    class AttachedAtBirth:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            attach_client(self)

    return AttachedAtBirth
