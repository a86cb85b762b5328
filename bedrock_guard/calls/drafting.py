"""
The request of a call, as far as it may be changed before it is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from bedrock_guard.domain.call import Call
from bedrock_guard.domain.entry import Entry
from bedrock_guard.open_call import OpenCall, open_entry
from bedrock_guard.operations.output_limit import OutputLimit
from bedrock_guard.planning import Planner


class Request(Protocol):
    """
    The request of a call, as far as it may be changed before it is sent.

    Attributes:
        draft: As it would be sent; what was read from here may be put back.
        base: As it was admitted so far.
        at_s: When it was last planned anew, seconds since 1970; None: when its call was opened.
    """

    draft: Any
    base: Any
    at_s: float | None

    @property
    def call(self) -> Call:
        """
        What the draft asks for.
        """
        ...

    @property
    def notes(self) -> Mapping[str, Any]:
        """
        What an entry says of the draft's changes, by field.
        """
        ...

    @property
    def is_dropped(self) -> bool:
        """
        Whether nobody waits for its answer any more.
        """
        ...

    def read_limit(self, answer: int, *, keeps_thinking: bool = False) -> OutputLimit | None:
        """
        How it limits its output, of which *answer* tokens are to be left; None where it takes no other limit.
        *keeps_thinking*: A budget that its caller gave to thinking is not lowered.
        """
        ...

    def limit(self, how: OutputLimit, tokens: int) -> bool:
        """
        Let it ask for *tokens* at most; False where it cannot.
        """
        ...

    def ask(self, model_id: str) -> bool:
        """
        Let it ask another model; False where it cannot.
        """
        ...

    def count(self) -> bool:
        """
        Have its input counted; False where that is not to be had.
        """
        ...


Source: TypeAlias = Callable[[], Request]
"""Gives the request of a call, the same one every time; most calls never ask."""


def replan(planner: Planner, opened: OpenCall, request: Request) -> None:
    """
    Let *opened* be what the draft asks for; nothing is held by that.

    Raises:
        UnpricedModel: It cannot be priced.
    """
    entry = opened.entry
    plan = planner.plan(request.call, entry.at_s if request.at_s is None else request.at_s)
    opened.plan = plan
    opened.entry = open_entry(entry.id, entry.at_s, plan).changed(waited_ms=entry.waited_ms, **request.notes)


def restore(planner: Planner, opened: OpenCall, request: Request) -> None:
    """
    Let *opened* be what was asked for.
    """
    if request.draft is not request.base:
        request.draft = request.base
        replan(planner, opened, request)


def as_begun(entry: Entry, before: Entry) -> Entry:
    """
    *entry*, of a request that was changed on its way, with what had been done until then by the one *before*.
    """
    return entry.changed(**{name: getattr(before, name) for name in _BEGUN})


_BEGUN: Final = (
    "allowed_by",
    "exceeded",
    "clamped_max_tokens",
    "counted_input_tokens",
    "fallback_from",
    "waited_ms",
)
