"""
`bedrock-guard prices`: what the price list says, how sound it is, and how to sync it with AWS's.

Exit codes: 0 done, 1 the answer is no (no price, odd under `--strict`, held back), 2 bad input.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.cli import price_reports as reports
from bedrock_guard.cli import screen
from bedrock_guard.config.load import resolve
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.errors import ConfigurationError, UnpricedModel
from bedrock_guard.planning import Planner
from bedrock_guard.pricing.freshness import age_warning
from bedrock_guard.pricing.offers import VARIANTS
from bedrock_guard.pricing.overlay import overlay_path, parse_content, read_content
from bedrock_guard.pricing.own_prices import OwnPrices
from bedrock_guard.pricing.places import is_region
from bedrock_guard.pricing.price_checks import check_prices
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.pricing.price_records import SERVICES, Record, fetch, read_file
from bedrock_guard.pricing.price_views import explain_own, find_differences
from bedrock_guard.pricing.rows import OPTIMIZED, read_packaged
from bedrock_guard.pricing.sync import sync

_NO: Final = 1
_BAD_INPUT: Final = 2
_TIERS: Final = (*(tier for tier in VARIANTS if tier != OPTIMIZED), "ultrafast")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")]
OverlayOption = Annotated[
    Path | None,
    typer.Option(
        "--overlay",
        help="The file of synced prices. Default: BEDROCK_GUARD_PRICES, else the user's state folder.",
    ),
]

prices = typer.Typer(
    name="prices", help="The price list: look at it, check it, sync it with AWS's.", no_args_is_help=True
)


@prices.command()
def show(
    model: Annotated[str, typer.Argument(help="A model id, an inference profile's id, or an ARN.")],
    *,
    region: Annotated[str | None, typer.Option(help="The region it is called in; else the dearest.")] = None,
    tier: Annotated[str, typer.Option(help=f"One of {', '.join(_TIERS)}.")] = "default",
    latency: Annotated[str, typer.Option(help="standard or optimized.")] = "standard",
    at: Annotated[str | None, typer.Option(help="A day, YYYY-MM-DD; else the newest prices.")] = None,
    list_price: Annotated[
        bool, typer.Option("--list-price", help="Leave out [prices] of the settings file.")
    ] = False,
    overlay: OverlayOption = None,
    as_json: Json = False,
) -> None:
    """
    What every meter of a model costs, and where each price is from.

    By the settings file in force: [models] tells what is behind an opaque id, [prices] what the account
    pays. Exits with 1 when there is no price for it.
    """
    _one_of("tier", tier, _TIERS)
    _one_of("latency", latency, ("standard", OPTIMIZED))
    _check_regions(() if region is None else (region,))
    day, listed, named = _day(at), _installed(overlay), parse_model_id(model)
    planner = _planner(listed)
    try:
        found, meters = explain_own(
            listed,
            OwnPrices(()) if list_price else planner.own,
            planner.resolve(named) or named,
            region=region,
            service_tier=tier,
            latency=latency,
            at=day,
        )
    except UnpricedModel as error:
        _fail(str(error).partition("\n")[0] + "\nSee the models with a price: bedrock-guard prices list", _NO)
    if as_json:
        print(json.dumps(reports.found_json(found, meters, listed.as_of)))
    else:
        reports.print_found(found, meters, listed.as_of)


@prices.command(name="list")
def list_models(
    maker: Annotated[str | None, typer.Argument(help="Only this maker's: anthropic, amazon, …")] = None,
    overlay: OverlayOption = None,
    as_json: Json = False,
) -> None:
    """
    Every model that the list has a price of.
    """
    listed = _installed(overlay)
    models = sorted(listed.models())
    makers = sorted({model.partition(".")[0] for model in models})
    if maker is not None:
        _one_of("maker", maker, makers)
        models = [model for model in models if model.partition(".")[0] == maker]
    if as_json:
        print(json.dumps({"as_of": listed.as_of.isoformat(), "models": models}))
    else:
        print("\n".join(models))


@prices.command()
def check(
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 when anything is odd.")] = False,
    overlay: OverlayOption = None,
    as_json: Json = False,
) -> None:
    """
    The list's age, what it lacks, and prices that contradict each other.

    A synced file that cannot be used is bad input here: exit code 2.
    """
    listed = _of_file(overlay_path(overlay))
    today = datetime.now(UTC).date()
    days, findings = (today - listed.as_of).days, list(check_prices(listed, today))
    if as_json:
        told = {
            "as_of": listed.as_of.isoformat(),
            "days": days,
            "age": age_warning(listed.as_of, today),
            "overlay_as_of": None if listed.overlay_as_of is None else listed.overlay_as_of.isoformat(),
            "packaged_as_of": listed.packaged_as_of.isoformat(),
            "findings": [each._asdict() for each in findings],
        }
        print(json.dumps(told))
    else:
        out = screen.console()
        synced = "not synced" if listed.overlay_as_of is None else f"synced prices of {listed.overlay_as_of}"
        age = f"{days} day{'' if days == 1 else 's'} old"
        out.print(f"Packaged prices of {listed.packaged_as_of}, {synced}: {age}.", soft_wrap=True)
        for each in findings:
            out.print(Text(f"{each.kind}: {each.text}", style="yellow"), soft_wrap=True)
        out.print(f"{len(findings)} to look at." if findings else "Nothing is odd.")
    if strict and findings:
        raise typer.Exit(_NO)


@prices.command()
def diff(
    before: Annotated[str, typer.Argument(help="'packaged', 'overlay', or a file of synced prices.")],
    after: Annotated[str, typer.Argument(help="The same.")],
    overlay: OverlayOption = None,
    as_json: Json = False,
) -> None:
    """
    Every price on which two lists differ, as USD a million.

    A list is the packaged one alone, or with an overlay over it.
    """
    one, other = (_named(name, overlay) for name in (before, after))
    differences = list(find_differences(one, other))
    if as_json:
        told = [
            {**each._asdict(), "before": reports.unit(each.before), "after": reports.unit(each.after)}
            for each in differences
        ]
        print(json.dumps({"differences": told}))
        return
    shown = reports.table("model", "place", "tier", "above", "meter", "before", "after")
    for each in differences:
        band = f"{each.above_input_tokens:,}" if each.above_input_tokens else ""
        cells = (each.model, each.place, each.variant, band, each.meter)
        shown.add_row(*map(Text, (*cells, reports.million(each.before), reports.million(each.after))))
    if differences:
        screen.console().print(shown)
    print(f"{len(differences)} prices differ.")


@prices.command(name="sync")
def sync_prices(
    files: Annotated[
        list[Path] | None,
        typer.Option("--from", help="A bulk index.json, .gz too, or saved get-products output. Repeat it."),
    ] = None,
    *,
    regions: Annotated[
        list[str] | None, typer.Option("--region", help="Only this region. Repeat it.")
    ] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Believe large moves and contradictions.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report, and write nothing.")] = False,
    overlay: OverlayOption = None,
    as_json: Json = False,
) -> None:
    """
    Read AWS's price list into the file of synced prices, which counts before the packaged list.

    Without --from it asks AWS, with the permission pricing:GetProducts. Prices that fall by more than a
    fifth, more than double or contradict each other hold everything back until --accept: exit code 1.
    """
    path = overlay_path(overlay)
    _check_regions(regions or ())
    try:
        with _progress() as progress:
            read = _read_files(files, regions or (), progress) if files else _ask_aws(regions, progress)
            result = sync(read, path, accept=accept, dry_run=dry_run)
    except ConfigurationError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{path} cannot be written: {error}")
    if as_json:
        print(json.dumps(reports.result_json(result)))
    else:
        reports.report(result, dry_run=dry_run)
    if not result.moves or (result.held and not accept):
        raise typer.Exit(_NO)


def _read_files(files: Sequence[Path], regions: Sequence[str], progress: Progress) -> Iterator[Record]:
    task = progress.add_task("reading", total=len(files))
    for file in files:
        progress.update(task, description=file.name)
        yield from read_file(file, regions)
        progress.advance(task)


def _ask_aws(regions: Sequence[str] | None, progress: Progress) -> Iterator[Record]:
    import boto3  # noqa: PLC0415  (only here is it needed)
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    named = list(regions or filter(None, [boto3.session.Session().region_name]))
    if not named:
        _fail("No region is configured. Name those that you call: --region us-east-1")
    task = progress.add_task("asking AWS", total=len(SERVICES) * len(named))
    seen: set[tuple[str, str]] = set()

    def hear(service: str, region: str, _: int) -> None:
        progress.update(task, description=f"{service} in {region}")
        if (service, region) not in seen:
            seen.add((service, region))
            progress.advance(task)

    try:
        yield from fetch(named, on_page=hear)
    except (BotoCoreError, ClientError) as error:
        _fail(
            f"AWS's price list could not be read: {error}\n"
            "It needs credentials with pricing:GetProducts; or give the bulk files: --from index.json",
            _NO,
        )


@contextmanager
def _progress() -> Iterator[Progress]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


def _installed(overlay: Path | None) -> PriceList:
    return PriceList.installed(overlay)


def _of_file(path: Path) -> PriceList:
    try:
        content = read_content(path)
        laid = None if content is None else parse_content(path, content)
    except ConfigurationError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{path} cannot be read: {error}")
    return PriceList(read_packaged, lambda: laid)


def _named(name: str, overlay: Path | None) -> PriceList:
    if name == "packaged":
        return PriceList.packaged()
    path = overlay_path(overlay) if name == "overlay" else Path(name)
    if not path.exists():
        hint = "Sync first: bedrock-guard prices sync" if name == "overlay" else "Known: packaged, overlay."
        _fail(f"There is no file {path}. {hint}")
    return _of_file(path)


def _day(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # The standard library reads other spellings too, such as weeks.
    if day is None or day.isoformat() != text:
        _fail(f"--at {text!r} is no day. Write it as 2026-11-21.")
    return datetime.combine(day, datetime.min.time(), UTC)


def _check_regions(regions: Iterable[str]) -> None:
    for region in regions:
        if not is_region(region):
            _fail(f"{region!r} is no region. Write it as AWS does: us-east-1.")


def _planner(prices: PriceList) -> Planner:
    """
    What a guard that is made here would price by.
    """
    try:
        settings = resolve(budgets=[], has_ledger=True).settings
    except ConfigurationError as error:
        _fail(str(error))
    return Planner(settings=settings, matcher=Matcher((), settings), prices=prices, tags={})


def _one_of(name: str, value: str, known: Iterable[str]) -> None:
    known = list(known)
    if value not in known:
        _fail(f"{value!r} is no {name}. Known: {', '.join(known)}.")


def _fail(message: str, code: int = _BAD_INPUT) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)
