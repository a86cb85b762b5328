"""
A job that was begun, and goes on after its call: what is held stays held until somebody settles it.

A started entry names the job and all that settles it, as the process that began it may be gone by then.
Where that cannot be written nobody would find the hold: the call ends at its estimate, as for other jobs.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from bedrock_guard.domain.entry import Attempt, Entry
from bedrock_guard.domain.held_job import HeldJob
from bedrock_guard.domain.ledger import Reservation
from bedrock_guard.domain.usage import Untold, UsageReport
from bedrock_guard.open_call import OpenCall

if TYPE_CHECKING:
    from bedrock_guard.calls.pipeline import Pipeline

log = logging.getLogger("bedrock_guard")

_HOUR_S: Final = 3600.0
# For somebody to settle a job that took as long as it may.
_MARGIN_S: Final = 24 * _HOUR_S
# A folder may have thousands, and a store a largest item.
_MOST_FILES: Final = 100


def begin_job(pipeline: Pipeline, opened: OpenCall, attempts: Sequence[Attempt], job: str) -> None:
    """
    Leave what is held for *opened* to *job*; never raises a ledger's trouble, the job is on its way.
    """
    batch = opened.plan.call.batch
    if batch is None or pipeline.stand_in.holds(opened) or not _is_kept(pipeline, opened, attempts, job):
        report = UsageReport({}, untold=Untold({}, is_estimate=True, job=job))
        pipeline.end(opened, attempts, report)


def _is_kept(pipeline: Pipeline, opened: OpenCall, attempts: Sequence[Attempt], job: str) -> bool:
    if not opened.take_end():
        return True
    is_kept = False
    try:
        batch, ledger = opened.plan.call.batch, pipeline.ledger
        hours = 0 if batch is None else batch.hours
        held = ledger.extend(opened.reservation, hold_s=hours * _HOUR_S + _MARGIN_S)
        if isinstance(held, Reservation):
            ledger.record(_started(pipeline, opened, held, attempts, job))
            pipeline.upkeep.let_go(opened)
            is_kept = True
    except Exception as error:  # noqa: BLE001 - whatever a ledger raises, the job is on its way
        log.warning(
            "What job %s is held by could not be kept, so it is charged at its estimate: %s", job, error
        )
    finally:
        if not is_kept:
            opened.give_back_end()
    return is_kept


def _started(
    pipeline: Pipeline, opened: OpenCall, held: Reservation, attempts: Sequence[Attempt], job: str
) -> Entry:
    plan, entry = opened.plan, opened.entry
    batch = plan.call.batch
    told = HeldJob(
        held.id,
        entry.at_s,
        held.expires_at_s,
        held.lines,
        dict(plan.worst),
        plan.call.model.geography,
        batch.records if batch is not None and batch.is_read else None,
        0 if batch is None else batch.largest_input_tokens,
        () if batch is None else batch.files[:_MOST_FILES],
    )
    now = pipeline.clock()
    return entry.changed(
        id=pipeline.new_id(now),
        at_s=now,
        outcome="started",
        usage={},
        cost_nanousd=0,
        list_cost_nanousd=0 if entry.has_own_prices else None,
        attempts=tuple(attempts),
        job=job,
        held=told.as_json(),
    )
