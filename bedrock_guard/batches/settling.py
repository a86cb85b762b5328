"""
How a batch job is settled when it is done, by whatever process, once.

    its manifest is there           what that says, at the price of a batch
    it ended, and nothing was run   nothing
    it ended, and nothing tells     what was held for it
    it goes on                      not yet

AWS charges what a job had processed before it was stopped, failed or given up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from bedrock_guard.batches.charging import Started, charged_entry, free_entry
from bedrock_guard.batches.files import MakeClient, MissingFile, read_whole
from bedrock_guard.domain.budget import amount_of
from bedrock_guard.domain.cost import usd_from_nanousd
from bedrock_guard.domain.entry import Basis, Entry
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.domain.held_job import HeldJob
from bedrock_guard.domain.ledger import Ledger, LedgerKey, read_all_entries
from bedrock_guard.domain.usage import INPUT_TOKENS, OUTPUT_TOKENS, Usage, add
from bedrock_guard.errors import ConfigurationError, ReservationClosed
from bedrock_guard.operations.batch import CREATE_MODEL_INVOCATION_JOB
from bedrock_guard.planning import Planner

How: TypeAlias = Literal["running", "settled", "released", "already"]

_RUNNING: Final = frozenset(["Submitted", "Validating", "Scheduled", "InProgress", "Stopping"])
_COMPLETED: Final = "Completed"
_MANIFEST: Final = "manifest.json.out"
_COUNTS: Final = {"inputTokenCount": INPUT_TOKENS, "outputTokenCount": OUTPUT_TOKENS}
# A job's submission is by AWS's clock, and an entry by ours.
_SLACK: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class SettledBatch:
    """
    What became of what was held for a job.

    Attributes:
        job: Its ARN.
        status: As AWS tells it.
        how: `settled` or `released` now; `already`, before; `running`: it goes on, and nothing was changed.
        basis: `reported` by its manifest, or `estimated`: what was held; None while it runs.
        cost: What it is charged, in USD; None while it runs, and without a price.
        usage: What it is charged for, by meter.
        entries: Ids of its entries, one for each guard that held for it.
        keys: Whose balances were charged now.
    """

    job: str
    status: str
    how: How
    basis: Basis | None = None
    cost: Decimal | None = None
    usage: Usage = field(default_factory=dict)
    entries: tuple[str, ...] = ()
    keys: frozenset[LedgerKey] = frozenset()


class _Job(NamedTuple):
    arn: str
    status: str
    submitted: datetime
    processed: int | None
    manifest: str


class BatchSettler:
    """
    Settles jobs in one ledger, at the prices of *planner*; *now* is in seconds since 1970.
    """

    def __init__(self, ledger: Ledger, planner: Planner, now: float) -> None:
        self._ledger = ledger
        self._planner = planner
        self._now = now

    def settle(self, job: str, *, manifest: str | None, bedrock: Any, make_s3: MakeClient) -> SettledBatch:
        """
        Settle what this ledger holds for *job*, an ARN or an id; *manifest* is where that is, if not where
        the job was told to write it.

        Raises:
            ConfigurationError: AWS or the ledger does not know it, or its manifest cannot be read.
            LedgerUnavailable: It is not written, or nobody knows.
        """
        told = _ask(bedrock, job)
        started, ended = self._find(told)
        if not started and not ended:
            raise ConfigurationError(
                f"No call in this ledger began {told.arn}. Name the ledger of the program that did; "
                "a job whose entry was dropped (keep_entries_days) is charged what was held for it."
            )
        over = {entry.id for entry in ended if entry.basis != "expired"}
        open_ = [each for each in started if each.held.reservation not in over]
        if not open_:
            return _told(told, "already", ended)
        if told.status in _RUNNING:
            return SettledBatch(told.arn, told.status, "running")
        try:
            return self._end(told, open_, manifest, make_s3)
        except ReservationClosed:  # somebody else has settled it meanwhile
            return _told(told, "already", self._find(told)[1])

    def _find(self, job: _Job) -> tuple[list[Started], list[Entry]]:
        """
        The calls that began *job*, and the entries of those that have ended.
        """
        since = (job.submitted - _SLACK).timestamp()
        where = EntryFilter(operation=CREATE_MODEL_INVOCATION_JOB.name, since=since)
        found = list(read_all_entries(self._ledger, where))
        started = [
            Started(entry, HeldJob.from_json(entry.held))
            for entry in found
            if entry.outcome == "started" and entry.job == job.arn and entry.held is not None
        ]
        ids = {each.held.reservation for each in started}
        others = [entry for entry in found if entry.outcome != "started"]
        return started, [entry for entry in others if entry.id in ids or entry.job == job.arn]

    def _end(
        self, job: _Job, open_: Sequence[Started], manifest: str | None, make_s3: MakeClient
    ) -> SettledBatch:
        if manifest is None and job.status != _COMPLETED and job.processed == 0:
            free = [free_entry(each, now=self._now) for each in open_]
            for each, entry in zip(open_, free, strict=True):
                self._ledger.release(each.held.held, entry)
            return _told(job, "released", free)
        used = _read_manifest(job, manifest, make_s3)
        entries: list[Entry] = []
        keys: set[LedgerKey] = set()
        for each in open_:
            entry = charged_entry(self._planner, each, used, now=self._now)
            amounts = _amounts(each.held, entry)
            self._ledger.settle(each.held.held, amounts, entry)
            entries.append(entry)
            keys.update(amounts)
        return _told(job, "settled", entries, frozenset(keys))


def _amounts(held: HeldJob, entry: Entry) -> dict[LedgerKey, int]:
    money = entry.cost_nanousd or 0
    return {
        line.key: amount_of(line.key.rule.partition("/")[0], nanousd=money, usage=entry.usage)
        for line in held.lines
    }


def _told(
    job: _Job, how: How, entries: Sequence[Entry], keys: frozenset[LedgerKey] = frozenset()
) -> SettledBatch:
    costs = [entry.cost_nanousd for entry in entries]
    is_reported = all(entry.basis == "reported" for entry in entries)
    return SettledBatch(
        job.arn,
        job.status,
        how,
        "reported" if is_reported else "estimated",
        # Each guard that shares the ledger charges the same job to budgets of its own.
        None if None in costs else usd_from_nanousd(max(cost or 0 for cost in costs)),
        add(entry.usage for entry in entries[:1]),
        tuple(entry.id for entry in entries),
        keys,
    )


def _ask(bedrock: Any, job: str) -> _Job:
    try:
        told: Mapping[str, Any] = bedrock.get_model_invocation_job(jobIdentifier=job)
    except Exception as error:
        raise ConfigurationError(f"AWS does not tell of job {job!r}: {error}") from error
    arn = str(told["jobArn"])
    output = str(told["outputDataConfig"].get("s3OutputDataConfig", {}).get("s3Uri", ""))
    return _Job(
        arn,
        str(told.get("status", "")),
        told["submitTime"],
        told.get("processedRecordCount"),
        f"{output.rstrip('/')}/{arn.rpartition('/')[2]}/{_MANIFEST}",
    )


def _read_manifest(job: _Job, manifest: str | None, make_s3: MakeClient) -> Usage | None:
    """
    The tokens that a manifest tells; None for a job that left none, and may have been billed all the same.
    """
    place = manifest or job.manifest
    try:
        content = read_whole(place, make_s3)
    except MissingFile:
        if manifest is not None or job.status == _COMPLETED:
            raise
        return None
    try:
        document = json.loads(content)
        used = {meter: document[name] for name, meter in _COUNTS.items()}
    except (ValueError, KeyError, TypeError, RecursionError):
        used = {}
    if not used or any(type(count) is not int or count < 0 for count in used.values()):
        raise ConfigurationError(f"{place!r} is no manifest of a batch: it tells no {' and '.join(_COUNTS)}.")
    return {meter: count for meter, count in used.items() if count}
