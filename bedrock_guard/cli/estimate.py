"""
`bedrock-guard estimate`: the most that a request can cost, or what a month of traffic would.

Exit codes: 0 done, 1 no price, or a budget that it does not fit, 2 bad input.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.cli import estimate_views as views
from bedrock_guard.cli.controls import read_pairs
from bedrock_guard.cli.reading import BAD_INPUT, NO, Csv, Json, check_forms, fail
from bedrock_guard.cli.safe_text import print_csv, to_json
from bedrock_guard.config.load import Resolved, resolve
from bedrock_guard.context import check_tags
from bedrock_guard.domain.services import RUNTIME
from bedrock_guard.errors import ConfigurationError, UnpricedModel
from bedrock_guard.operations import METERED
from bedrock_guard.planning import Planner
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.projecting.request import RequestEstimate, estimate_request
from bedrock_guard.projecting.traffic import (
    LIVES,
    Traffic,
    check_days,
    project,
    read_rate,
    read_share,
    split_tokens,
    usage_of_request,
)
from bedrock_guard.replay.documents import parse

_STDIN: Final = "-"
_DAYS: Final = 30
_OPERATIONS: Final = tuple(name for service, name in METERED if service == RUNTIME)
_BODIES: Final = ("InvokeModel", "InvokeModelWithResponseStream")
RequestFile = Annotated[
    str | None,
    typer.Argument(
        metavar="[FILE]", help="A request as JSON: the parameters of the operation; - is standard input."
    ),
]
Model = Annotated[
    list[str] | None,
    typer.Option("--model", help="Its id, profile or ARN. Several, for a month: side by side."),
]
Operation = Annotated[
    str | None, typer.Option(help=f"Of the request: {', '.join(_OPERATIONS)}. Default: Converse.")
]
Region = Annotated[str, typer.Option(help="Where it is called.")]
Tier = Annotated[str, typer.Option(help="The service tier, of a month.")]
Tag = Annotated[list[str] | None, typer.Option(help="TAG=VALUE, of the request: budgets match by tags.")]
Settings = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Settings file: its prices, and of a request its budgets."),
]
Users = Annotated[int | None, typer.Option(min=1, help="How many users. Default: 1.")]
Rate = Annotated[str | None, typer.Option(help="Of each user: 50/day, 350/week, 1500/month.")]
Requests = Annotated[int | None, typer.Option(min=1, help="Of each conversation. Default: 1.")]
Tokens = Annotated[int | None, typer.Option(min=1, help="Of each request, input and output together.")]
OutputShare = Annotated[str | None, typer.Option(help="How much of --tokens is output: 0.6, or 60%.")]
InputTokens = Annotated[int | None, typer.Option(min=0, help="Of each request, cached or not.")]
OutputTokens = Annotated[int | None, typer.Option(min=0, help="Of each request.")]
ReadShare = Annotated[str | None, typer.Option(help="How much of the input is read from a cache.")]
WriteShare = Annotated[str | None, typer.Option(help="How much of the input is written to a cache.")]
Life = Annotated[
    str | None, typer.Option(help=f"How long what is written lives: {', '.join(LIVES)}. Default: 5m.")
]
Days = Annotated[int | None, typer.Option(help="Of the month. Default: 30.")]


class _Asked(NamedTuple):
    """
    What both are asked with.
    """

    models: list[str]
    region: str
    tier: str
    config: str | None


class _OfRequest(NamedTuple):
    """
    Options of a request alone; None where one is not given.
    """

    operation: str | None
    tag: list[str] | None


class _OfTraffic(NamedTuple):
    """
    Options of a month of traffic alone; None where one is not given.
    """

    users: int | None
    conversations: str | None
    requests: int | None
    tokens: int | None
    output_share: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_read_share: str | None
    cache_write_share: str | None
    cache_life: str | None
    days: int | None


def estimate(
    file: RequestFile = None,
    *,
    model: Model = None,
    operation: Operation = None,
    region: Region = "us-east-1",
    tier: Tier = "default",
    tag: Tag = None,
    config: Settings = None,
    users: Users = None,
    conversations: Rate = None,
    requests: Requests = None,
    tokens: Tokens = None,
    output_share: OutputShare = None,
    input_tokens: InputTokens = None,
    output_tokens: OutputTokens = None,
    cache_read_share: ReadShare = None,
    cache_write_share: WriteShare = None,
    cache_life: Life = None,
    days: Days = None,
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """
    The most that a request can cost, or what a month of traffic would, with one model or several.

    With FILE, the bound that a guard would hold for this request, and whether the budgets of --config have
    room for it while nothing is spent. Without, users x conversations x tokens at the prices of each --model,
    and the limits that hold it. Nothing is sent, and no ledger is written.
    """
    check_forms(as_json, as_csv)
    asked, of_request = _Asked(model or [], region, tier, config), _OfRequest(operation, tag)
    of_traffic = _OfTraffic(
        users,
        conversations,
        requests,
        tokens,
        output_share,
        input_tokens,
        output_tokens,
        cache_read_share,
        cache_write_share,
        cache_life,
        days,
    )
    try:
        if file is None:
            _check_unused(of_request, "of a request; name its FILE, or - for standard input")
            _month(asked, of_traffic, as_json=as_json, as_csv=as_csv)
        else:
            _check_unused(of_traffic, "of a month of traffic; leave out FILE")
            _request(file, asked, of_request, as_json=as_json, as_csv=as_csv)
    except ConfigurationError as error:
        fail(str(error), BAD_INPUT)
    except UnpricedModel as error:
        fail(str(error).partition("\n")[0] + "\nSee the models with a price: bedrock-guard prices list", NO)


def _check_unused(options: _OfRequest | _OfTraffic, of_what: str) -> None:
    given = next((name for name, value in options._asdict().items() if value is not None), None)
    if given is not None:
        raise ConfigurationError(f"--{given.replace('_', '-')} is {of_what}.")


# One request


def _request(file: str, asked: _Asked, options: _OfRequest, *, as_json: bool, as_csv: bool) -> None:
    if as_csv:
        raise ConfigurationError("--csv is of a month of traffic; a request has --json.")
    if asked.tier != "default":
        raise ConfigurationError("--tier is of a month of traffic; a request says its own, as serviceTier.")
    operation, params = _read_request(file, asked.models, options.operation)
    tags = read_pairs("--tag", options.tag)
    # Of what a call has by itself, nothing in a file tells who makes it.
    check_tags({tag: value for tag, value in tags.items() if tag != "principal"})
    planner = _planner(_resolve(asked.config, has_budgets=True), tags)
    found = estimate_request(planner, operation, params, region=asked.region, now=time.time())
    if as_json:
        print(to_json(views.request_json(found)))
    else:
        views.show_request(found)
    if not _may_go(found):
        raise typer.Exit(NO)


def _may_go(found: RequestEstimate) -> bool:
    return all(fit.fits for fit in found.fits if fit.enforced)


def _read_request(place: str, models: list[str], operation: str | None) -> tuple[str, dict[str, Any]]:
    """
    The operation that is asked for, and its parameters.

    Raises:
        ConfigurationError: The file is no request, or names no model.
    """
    try:
        text = sys.stdin.buffer.read() if place == _STDIN else Path(place).read_bytes()
        document = parse(text)
    except OSError as error:
        raise ConfigurationError(f"{place!r} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise ConfigurationError(f"{place!r} is no JSON: {error}.") from None
    if not isinstance(document, dict):
        raise ConfigurationError(f"{place!r} is no JSON object; it is the parameters of the operation.")
    if len(models) > 1:
        raise ConfigurationError("A request has one --model; several are of a month of traffic.")
    operation = operation or ("InvokeModel" if "body" in document else "Converse")
    if operation in _BODIES and "body" not in document:
        document = {"body": document}
    if models:
        document = {**document, "modelId": models[0]}
    if "modelId" not in document:
        raise ConfigurationError(f"{place!r} names no modelId; name one: --model ID.")
    return operation, document


# A month


def _month(asked: _Asked, options: _OfTraffic, *, as_json: bool, as_csv: bool) -> None:
    if not asked.models:
        raise ConfigurationError("Name a model: --model ID, or several; or the FILE of a request.")
    traffic = _read_traffic(options)
    planner = _planner(_resolve(asked.config, has_budgets=False), {})
    found = [
        project(planner, traffic, model, region=asked.region, service_tier=asked.tier)
        for model in dict.fromkeys(asked.models)
    ]
    if as_json:
        print(to_json(views.month_json(traffic, found)))
    elif as_csv:
        print_csv(views.MONTH_COLUMNS, map(views.projection_json, found))
    else:
        views.show_month(traffic, found)


def _read_traffic(options: _OfTraffic) -> Traffic:
    days = _DAYS if options.days is None else options.days
    check_days(days)
    if options.conversations is None:
        raise ConfigurationError("Say how many conversations each user has: --conversations 50/day.")
    life = options.cache_life or "5m"
    if life not in LIVES:
        raise ConfigurationError(f"--cache-life {life!r} is none of {', '.join(LIVES)}.")
    sent, written = _read_tokens(options)
    usage = usage_of_request(
        sent,
        written,
        read=read_share("--cache-read-share", options.cache_read_share or "0"),
        written=read_share("--cache-write-share", options.cache_write_share or "0"),
        life=life,
    )
    rate = read_rate(options.conversations, days)
    return Traffic(options.users or 1, rate, options.requests or 1, usage, days)


def _read_tokens(options: _OfTraffic) -> tuple[int, int]:
    """
    Input and output tokens of a request.

    Raises:
        ConfigurationError: They are said in neither way, or in both.
    """
    sent, written, tokens, share = (
        options.input_tokens,
        options.output_tokens,
        options.tokens,
        options.output_share,
    )
    if tokens is not None and share is not None and sent is None and written is None:
        return split_tokens(tokens, read_share("--output-share", share))
    if tokens is None and share is None and (sent or written):
        return sent or 0, written or 0
    raise ConfigurationError(
        "Say how large a request is: --tokens 500 --output-share 0.6, or "
        "--input-tokens 200 --output-tokens 300."
    )


def _resolve(config: str | None, *, has_budgets: bool) -> Resolved:
    return resolve(
        budgets=None if has_budgets and config else (),
        breakers=(),
        ledger="memory://",
        settings=config,
        needs_budget=False,
    )


def _planner(resolved: Resolved, tags: Mapping[str, str]) -> Planner:
    settings = resolved.settings
    return Planner(
        settings=settings,
        matcher=Matcher(resolved.budgets, settings),
        prices=PriceList.installed(),
        tags={**resolved.tags, **tags},
    )
