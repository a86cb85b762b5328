"""
Holding more for a stream that tells, while it is read, what it has used: an agent's.

What its models used so far is held beside one more of their calls, or beside a flat price once that is
used up. Where that does not fit any more, the stream is closed, and its reader is told why.
"""

from __future__ import annotations

from bedrock_guard.calls.pipeline import Pipeline
from bedrock_guard.domain.call import Call
from bedrock_guard.errors import GuardError
from bedrock_guard.hooks.calls import CallState
from bedrock_guard.open_call import OpenCall
from bedrock_guard.operations.agent_traces import TraceReader
from bedrock_guard.spending import cost_of_parts


class Growth:
    """
    Called after each event of one stream. It holds no stream.
    """

    __slots__ = ("_reader", "_state", "_told")

    def __init__(self, state: CallState, reader: TraceReader) -> None:
        self._state = state
        self._reader = reader
        self._told = 0

    @property
    def is_due(self) -> bool:
        """
        Whether more has been used than was looked at.
        """
        return self._reader.told != self._told

    def __call__(self) -> None:
        """
        Hold what the stream has used beyond what is held.

        Raises:
            GuardError: It does not fit; who reads the stream must leave it.
        """
        self._told = self._reader.told
        if self._state.call is None:
            return
        call = self._state.call._replace(spent=self._reader.spent)
        for pipeline, opened in self._state.opened:
            _grow(pipeline, opened, call)


def _grow(pipeline: Pipeline, opened: OpenCall, call: Call) -> None:
    # By the tags and in the windows that it was let through in: who reads a stream may have left its scope.
    was = opened.plan
    plan = pipeline.planner.plan(call, opened.entry.at_s)._replace(tags=was.tags, matches=was.matches)
    held = {line.key: line.amount for line in opened.reservation.lines}
    if all(line.amount <= held.get(line.key, 0) for line in plan.lines()):
        return
    try:
        pipeline.rebound(opened, call, plan)
    except GuardError:
        # It is used, held or not: the end charges no less.
        spent = call.spent
        money = None if spent is None else cost_of_parts(pipeline.planner, was, spent)[0]
        if spent is not None and money is not None and money > (was.nanousd or 0):
            opened.plan = was._replace(worst=spent.usage, nanousd=money)
        raise
