"""
`bedrock-guard aws`: what AWS itself can add, printed for CloudFormation. Nothing is sent.

Exit codes: 0 done, 2 bad input.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, NoReturn

import typer

from bedrock_guard.cli.aws_backstop import TIME_UNITS
from bedrock_guard.cli.aws_backstop import backstop as backstop_template
from bedrock_guard.cli.aws_dashboard import dashboard as dashboard_template
from bedrock_guard.domain.budget import USD, Budget, parse_limit
from bedrock_guard.domain.cost import usd_from_nanousd
from bedrock_guard.errors import ConfigurationError

_BAD_INPUT: Final = 2
# Of a role or a group, with its path.
_IAM_NAME: Final = re.compile(r"(?:[\w+=,.@-]+/)*[\w+=,.@-]{1,128}", re.ASCII)
_SERVICE: Final = re.compile(r"[\w .:/@+-]{1,128}", re.ASCII)

aws = typer.Typer(name="aws", help="What AWS itself can add, for CloudFormation.", no_args_is_help=True)


@aws.command()
def backstop(
    limit: Annotated[str, typer.Argument(help='"500 USD/month"; also /quarter and /year.')],
    *,
    role: Annotated[list[str] | None, typer.Option(help="Role that is denied Bedrock; several.")] = None,
    group: Annotated[list[str] | None, typer.Option(help="Group of users that is; several.")] = None,
    service: Annotated[
        list[str] | None, typer.Option(help="Whose cost counts, as Cost Explorer names it; several.")
    ] = None,
    whole_account: Annotated[bool, typer.Option(help="The cost of all services counts.")] = False,
    email: Annotated[list[str] | None, typer.Option(help="Who is told; several.")] = None,
) -> None:
    """
    Print an AWS Budget that denies Bedrock to roles: the last line of defence, hours late.
    """
    try:
        parsed = parse_limit(limit)
    except ConfigurationError as error:
        _fail(str(error))
    period = str(parsed.period)
    if parsed.unit != USD or period not in TIME_UNITS or not parsed.amount:
        _fail(f"{limit!r}: AWS Budgets acts on USD a {', '.join(TIME_UNITS)}: '500 USD/month'.")
    roles, groups = _names("--role", role), _names("--group", group)
    if not roles and not groups:
        _fail("Name who is denied Bedrock: --role NAME or --group NAME.")
    if bool(service) == whole_account:
        _fail(
            "Say whose cost counts: --service 'Amazon Bedrock', and one more for each maker that AWS bills "
            "through its Marketplace, as Cost Explorer names them, such as "
            "--service 'Claude Sonnet 4.5 (Amazon Bedrock Edition)'; or --whole-account."
        )
    template = backstop_template(
        usd=usd_from_nanousd(parsed.amount),
        period=period,
        services=service or (),
        roles=roles,
        groups=groups,
        emails=email or (),
    )
    print(json.dumps(template, indent=2))


@aws.command()
def dashboard(
    service: Annotated[
        str, typer.Argument(help="The `service` of the metrics, as the program's sink names it.")
    ],
    *,
    budget: Annotated[list[str] | None, typer.Option(help="Name of a budget; several.")] = None,
    share: Annotated[str, typer.Option(help="Of a budget, that alarms.")] = "0.8",
    cache_hit_share: Annotated[str, typer.Option(help="Under which it alarms.")] = "0.5",
) -> None:
    """
    Print a CloudWatch dashboard and alarms, over the metrics of the powertools sink.
    """
    if not _SERVICE.fullmatch(service):
        _fail(f"{service!r} is no service's name: letters, digits, spaces or any of _ . : / @ + -")
    try:
        names = [Budget(name, "1 USD").name for name in budget or ()]
    except ConfigurationError as error:
        _fail(str(error))
    template = dashboard_template(
        service=service,
        budgets=names,
        share=_share("--share", share),
        cache_hit_share=_share("--cache-hit-share", cache_hit_share),
    )
    print(json.dumps(template, indent=2))


def _names(option: str, names: list[str] | None) -> list[str]:
    for name in names or ():
        if not _IAM_NAME.fullmatch(name):
            _fail(
                f"{option} {name!r}: write its name, not its ARN; a path may stand before it: 'team/search'."
            )
    return names or []


def _share(option: str, text: str) -> Decimal:
    try:
        share = Decimal(text)
    except InvalidOperation:
        share = Decimal(-1)
    if not 0 < share <= 1:
        _fail(f"{option} {text!r}: it is a share, from 0 to 1: 0.8.")
    return share


def _fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(_BAD_INPUT)
