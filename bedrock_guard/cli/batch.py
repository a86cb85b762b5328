"""
`bedrock-guard batch`: what a batch job can cost before it is created, and what it did cost when it is done.

Exit codes: 0 done, 1 no price, a job that goes on, or a ledger that cannot be used, 2 bad input.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from bedrock_guard.cli.controls import Config, Json, Ledger, check_there
from bedrock_guard.cli.screen import counted
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable, UnpricedModel

if TYPE_CHECKING:
    from bedrock_guard.batches.bounding import BatchEstimate
    from bedrock_guard.batches.settling import SettledBatch
    from bedrock_guard.wiring import Guard

_NO: Final = 1
_BAD_INPUT: Final = 2
_TOLD: Final = {
    "settled": "{status}; settled at {cost}, {basis}.",
    "released": "{status}, and nothing was run; what was held is released.",
    "already": "{status}; settled before, at {cost}, {basis}.",
    "running": "{status}; it goes on, and nothing is settled yet.",
}
_BASES: Final = {
    "reported": "as its manifest says",
    "estimated": "which is partly or wholly what was held: nothing tells all that was used",
}

batch = typer.Typer(
    name="batch", help="Batch jobs: what one can cost, and what one did cost.", no_args_is_help=True
)

Region = Annotated[str | None, typer.Option(help="Default: the job's own, or your AWS session's.")]


@batch.command()
def estimate(
    place: Annotated[
        str, typer.Argument(help="A file or folder of records, on disk or s3://bucket/folder/.")
    ],
    *,
    model: Annotated[str, typer.Option(help="As the job will name it.")],
    region: Annotated[str, typer.Option(help="Where the job will run.")] = "us-east-1",
    invocation_type: Annotated[
        str, typer.Option(help="Whose requests the records hold: InvokeModel or Converse.")
    ] = "InvokeModel",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """
    The most that a batch of these records can cost; creates nothing.
    """
    with _guard("memory://", config) as guard, _progress(place, region) as tell:
        found = guard.estimate_batch(place, model, region=region, invocation_type=invocation_type, tell=tell)
    print(json.dumps(_estimate_json(found)) if as_json else _show_estimate(found))


@batch.command()
def settle(
    job: Annotated[str, typer.Argument(help="The job's ARN or id.")],
    *,
    manifest: Annotated[
        str | None, typer.Option(help="Its manifest.json.out, if not where the job was told to write it.")
    ] = None,
    region: Region = None,
    ledger: Ledger = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """
    Settle what is held for a job at what it used; once it is done, and once.
    """
    with _guard(ledger, config, is_there=True) as guard:
        settled = guard.settle_batch(job, manifest=manifest, region=region)
    print(json.dumps(_settled_json(settled)) if as_json else _show_settled(settled))
    if settled.how == "running":
        raise typer.Exit(_NO)


@contextmanager
def _guard(ledger: str | None, config: str | None, *, is_there: bool = False) -> Iterator[Guard]:
    """
    A guard without budgets of its own; its errors end the command.
    """
    from bedrock_guard.config.load import resolve  # noqa: PLC0415  (pydantic is imported on use)
    from bedrock_guard.wiring import Guard  # noqa: PLC0415

    try:
        if is_there:
            check_there(resolve(budgets=[], ledger=ledger, settings=config).ledger or "")
        with Guard(budgets=[], breakers=[], ledger=ledger, settings=config, sinks=[], telemetry=()) as guard:
            yield guard
    except ConfigurationError as error:
        _fail(str(error), _BAD_INPUT)
    except (LedgerUnavailable, UnpricedModel) as error:
        _fail(str(error), _NO)


@contextmanager
def _progress(place: str, region: str) -> Iterator[Callable[[int], None]]:
    """
    A bar over the bytes at *place*, where a person looks on.
    """
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("reading", total=_size(place, region))
        yield lambda read: bar.advance(task, read)


def _size(place: str, region: str) -> int:
    import boto3  # noqa: PLC0415

    from bedrock_guard.batches.files import size_of  # noqa: PLC0415

    return size_of(place, lambda: boto3.client("s3", region_name=region))


def _estimate_json(found: BatchEstimate) -> dict[str, object]:
    return {
        "records": found.records,
        "usage": dict(found.usage),
        "cost_usd": None if found.cost is None else str(found.cost),
        "files": list(found.files),
    }


def _show_estimate(found: BatchEstimate) -> str:
    usage = ", ".join(f"{quantity:,} {meter}" for meter, quantity in found.usage.items()) or "nothing"
    cost = "no price" if found.cost is None else f"${found.cost:f}"
    shown = f"{counted(found.records, 'record')} in {counted(len(found.files), 'file')}"
    return f"{shown}\nat most {usage}\nat most {cost}"


def _settled_json(settled: SettledBatch) -> dict[str, object]:
    return {
        "job": settled.job,
        "status": settled.status,
        "how": settled.how,
        "basis": settled.basis,
        "cost_usd": None if settled.cost is None else str(settled.cost),
        "usage": dict(settled.usage),
        "entries": list(settled.entries),
    }


def _show_settled(settled: SettledBatch) -> str:
    cost = "no price" if settled.cost is None else f"${settled.cost:f}"
    told = _TOLD[settled.how].format(
        status=settled.status, cost=cost, basis=_BASES.get(settled.basis or "", "")
    )
    return f"{settled.job}: {told}"


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)
