"""
What a guard offers to those who operate it: the words of `operating` and `batches`, as its methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar

from bedrock_guard.batches.bounding import BatchEstimate, estimate
from bedrock_guard.batches.settling import BatchSettler, SettledBatch
from bedrock_guard.calls.pipeline import Pipeline
from bedrock_guard.checks import check_model_id, check_region
from bedrock_guard.domain.control import Controls
from bedrock_guard.domain.globs import Globs
from bedrock_guard.domain.ledger import SweepReport
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.flushing import FLUSH_S, flush
from bedrock_guard.operating import Operator


class Operated:
    """
    Stops and top-ups of the ledger of a guard; they hold for all guards and processes that share it. And
    batch jobs, which outlive the processes that begin them.
    """

    covers_program: ClassVar[bool] = False
    """Whether it is round a program that does not know of it: `Guard.of` tells of others first, and `unguard`
    leaves it on."""

    _operator: Operator
    _pipeline: Pipeline

    def stop(
        self,
        *,
        match: Mapping[str, Globs] | None = None,
        reason: str,
        until: datetime | None = None,
        by: str | None = None,
    ) -> str:
        """
        Admit no call whose tags *match*, globs as of a budget; without, none at all.

        It holds from the next call of every process on `memory://` and `sqlite://`, and within
        `control_refresh_s` on `dynamodb://`. What is held already may finish. Those who call get
        `Stopped`, with the *reason*. It passes at *until*, an aware datetime, or with `resume`.

        *by* says who, where that is not this process's user and host.

        Returns its id.

        Raises:
            ConfigurationError: Something cannot be understood.
            LedgerUnavailable: It is not written, or nobody knows; the ledger may be an operator's to write.
        """
        return self._operator.stop({} if match is None else match, reason, until=until, by=by)

    def resume(
        self,
        id: str | None = None,  # noqa: A002 - a stop's own word
        *,
        match: Mapping[str, Globs] | None = None,
        by: str | None = None,
    ) -> tuple[str, ...]:
        """
        End the stop of this id, or those that were made with just this *match*.

        Returns their ids.

        Raises:
            ConfigurationError: There is none; the text names those in force.
            LedgerUnavailable: It is not written, or nobody knows.
        """
        return self._operator.resume(id, match, by=by)

    def top_up(
        self,
        budget: str,
        amount: str,
        *,
        per: Mapping[str, str] | None = None,
        until: datetime | None = None,
        reason: str = "",
        by: str | None = None,
    ) -> str:
        """
        Add *amount*, such as `"20 USD"`, to the limit of one balance, until its window ends, or sooner; of
        a rolling window, for as long as that is. A rate cannot be topped up.

        *budget* is the name of one of this guard's; of one with `per` tags, *per* says whose balance:
        `{"user": "alice"}`. It holds as soon as a stop does, and never for the next window.

        Returns its id.

        Raises:
            ConfigurationError: Something cannot be understood, or *until* is after the window's end.
            LedgerUnavailable: It is not written, or nobody knows.
        """
        return self._operator.top_up(budget, amount, per=per, until=until, reason=reason, by=by)

    def controls(self) -> Controls:
        """
        The stops and top-ups that are in force.

        On `dynamodb://`, as they were `control_refresh_s` ago or later.
        """
        return self._operator.controls()

    def sweep(self) -> SweepReport:
        """
        End the reservations of processes that died; happens by itself about once a minute.
        """
        self._pipeline.upkeep.write_ends()
        return self._pipeline.sweeper.sweep_all()

    def flush(self, timeout_s: float = FLUSH_S) -> bool:
        """
        Write what has ended and is not in the ledger yet, tell what is to be told of budgets, and wait for
        both for *timeout_s* seconds at most.

        Both are done by themselves; this is for who goes before that. Calls and streams that are open
        stay open.

        Returns whether every call that has ended is written, and every alert told.
        """
        return flush(self._pipeline, timeout_s)

    def estimate_batch(
        self,
        place: str,
        model_id: str,
        *,
        region: str = "us-east-1",
        invocation_type: str = "InvokeModel",
        s3: Any = None,
        tell: Callable[[int], None] = lambda _: None,
    ) -> BatchEstimate:
        """
        The most that a batch of the records at *place* can use and cost; sends nothing to Bedrock.

        *place* is a file or a folder, on disk or in S3 (`s3://bucket/folder/`). *invocation_type* is that of
        the job, `"InvokeModel"` or `"Converse"`; *s3* a client, where the default session's does not do.
        *tell* hears of bytes that were read.

        Raises:
            ConfigurationError: They cannot be read, or something cannot be understood.
            UnpricedModel: The model has no price.
        """
        return estimate(
            self._pipeline.planner,
            place,
            check_model_id(model_id),
            region=check_region(region),
            invocation=invocation_type,
            make_client=lambda: _client("s3", region) if s3 is None else s3,
            now=self._pipeline.clock(),
            tell=tell,
        )

    def settle_batch(
        self,
        job: str,
        *,
        manifest: str | None = None,
        region: str | None = None,
        bedrock: Any = None,
        s3: Any = None,
    ) -> SettledBatch:
        """
        Settle what the ledger holds for a batch job, an ARN or an id, at what its manifest says it used;
        twice is as good as once.

        The job is asked of AWS, and its manifest read where it was told to write it, or at *manifest*, a file
        or a place in S3. *bedrock* and *s3* are clients, where the default session's do not do.

        Raises:
            ConfigurationError: AWS or the ledger does not know the job, or its manifest cannot be read.
            LedgerUnavailable: It is not written, or nobody knows.
        """
        parts = job.split(":")
        where = region or (parts[3] if len(parts) > 3 else None)
        settler = BatchSettler(self._pipeline.ledger, self._pipeline.planner, self._pipeline.clock())
        settled = settler.settle(
            job,
            manifest=manifest,
            bedrock=_client("bedrock", where) if bedrock is None else bedrock,
            make_s3=lambda: _client("s3", where) if s3 is None else s3,
        )
        if self._pipeline.alerts is not None and settled.keys:
            self._pipeline.alerts.see_charged(settled.keys)
        return settled


def _client(service: str, region: str | None) -> Any:
    import boto3  # noqa: PLC0415  (imported on use)
    from botocore.exceptions import BotoCoreError, InvalidRegionError, NoRegionError  # noqa: PLC0415

    try:
        return boto3.client(service, region_name=region)
    except (BotoCoreError, ValueError) as error:
        is_place = isinstance(error, (NoRegionError, InvalidRegionError))
        what_to_do = " Name a region, or a job by its ARN." if is_place else ""
        why = str(error).rstrip(".")
        raise ConfigurationError(f"There can be no client of {service}: {why}.{what_to_do}") from error
