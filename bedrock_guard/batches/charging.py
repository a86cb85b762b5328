"""
What a job that is done is charged: what its manifest tells, or what was held for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from bedrock_guard.domain.cost import PriceBasis
from bedrock_guard.domain.entry import Attempt, Basis, Entry
from bedrock_guard.domain.held_job import HeldJob
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.usage import ALL_INPUT_METERS, INPUT_TOKENS, OUTPUT_TOKENS, Usage, UsageReport
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.estimators.plausible import judge
from bedrock_guard.meters import ANY_MODEL
from bedrock_guard.operations.batch import TIER
from bedrock_guard.planning import Planner
from bedrock_guard.pricing.calculate import nanousd
from bedrock_guard.pricing.unit_prices import UnitPrices

_ABOVE: Final = "above_bound"
_TOLD: Final = (INPUT_TOKENS, OUTPUT_TOKENS)


class Started(NamedTuple):
    """
    A call that began a job: its started entry, and what that says is held.
    """

    entry: Entry
    held: HeldJob


def charged_entry(planner: Planner, started: Started, told: Usage | None, *, now: float) -> Entry:
    """
    The entry of a job that used the tokens *told*; None charges what was held.
    """
    entry, held = started
    if told is None or (held.records is None and not _is_all(planner, started, told)):
        attempt = _answered(started, held.usage, entry.estimated_cost_nanousd, "estimated")
        return _ended(started, attempt, now, list_cost_nanousd=_list_cost(planner, started, held.usage))
    # A manifest counts tokens alone, and not of every model both kinds.
    beside = {} if held.records is None else held.usage
    rest = {meter: most for meter, most in beside.items() if meter not in _counted(told)}
    usage = {meter: count for meter, count in {**told, **rest}.items() if count}
    money, priced, is_sure = _price(planner, started, usage)
    return _ended(
        started,
        _answered(started, usage, money, "reported" if is_sure and not rest else "estimated"),
        now,
        reported_usage={meter: count for meter, count in told.items() if count},
        priced=priced,
        anomalies=_anomalies(held, usage),
        list_cost_nanousd=_list_cost(planner, started, usage),
    )


def free_entry(started: Started, *, now: float) -> Entry:
    """
    The entry of a job of which nothing was run.
    """
    free = {"list_cost_nanousd": 0 if started.entry.has_own_prices else None}
    return _ended(started, Attempt("rejected", 200), now, **free)


def _counted(told: Usage) -> frozenset[str]:
    return frozenset([*told, *(ALL_INPUT_METERS if INPUT_TOKENS in told else ())])


def _is_all(planner: Planner, started: Started, told: Usage) -> bool:
    """
    Whether *told* counts all that the model bills for; where its input was not read, nothing else does.
    """
    try:
        prices = planner.find_prices(**_priced_by(started))
    except UnpricedModel:
        return len(told) == len(_TOLD)
    billed = {meter for band in prices.bands for meter, price in band.prices.items() if price}
    return billed - ANY_MODEL <= _counted(told)


def _anomalies(held: HeldJob, usage: Usage) -> tuple[str, ...]:
    """
    Whether it used far more than what was read of it; that it is more than one call can be is no wonder.
    """
    verdict = None if held.records is None else judge(UsageReport(usage), held.usage)
    return (_ABOVE,) if verdict is not None and _ABOVE in verdict.anomalies else ()


def _answered(started: Started, usage: Usage, money: int | None, basis: Basis) -> Attempt:
    status = started.entry.attempts[-1].status if started.entry.attempts else None
    return Attempt("answered", status, None, usage, money, basis)


def _ended(started: Started, attempt: Attempt, now: float, **told: Any) -> Entry:
    entry, held = started
    return entry.changed(
        id=held.reservation,
        at_s=held.at_s,
        outcome=attempt.outcome,
        usage=attempt.usage,
        cost_nanousd=attempt.cost_nanousd,
        basis=attempt.basis,
        attempts=(*entry.attempts[:-1], attempt),
        duration_ms=max(0, round((now - held.at_s) * 1000)),
        held=None,
        **told,
    )


def _price(planner: Planner, started: Started, usage: Usage) -> tuple[int | None, PriceBasis, bool]:
    """
    What *usage* costs, and whether that is sure: of a price by bands, that of each record has to be known.
    """
    if started.entry.estimated_cost_nanousd is None:  # let through without one
        return None, "list", True
    dearest = planner.prices.dearest()
    try:
        prices = planner.find_prices(**_priced_by(started))
    except UnpricedModel:
        prices = dearest
    return (*nanousd(usage, _in_band(prices, started.held), dearest=dearest), _is_sure(prices, started.held))


def _list_cost(planner: Planner, started: Started, usage: Usage) -> int | None:
    if not started.entry.has_own_prices:
        return None
    try:
        prices = planner.prices.find(**_priced_by(started))
        return nanousd(usage, _in_band(prices, started.held))[0]
    except UnpricedModel:
        return None


def _priced_by(started: Started) -> Mapping[str, Any]:
    entry, held = started
    model = parse_model_id(entry.model_id)
    if model.model is None and entry.model is not None:
        maker = entry.model.partition(".")[0]
        model = model._replace(model=entry.model, maker=maker, geography=held.geography)
    at = datetime.fromtimestamp(held.at_s, UTC)
    return {"model": model, "region": entry.region, "service_tier": TIER, "at": at}


def _in_band(prices: UnitPrices, held: HeldJob) -> UnitPrices:
    dearest = prices.bands[-1].above_input_tokens + 1
    return prices.in_band_of(dearest if held.records is None else held.largest_input_tokens)


def _is_sure(prices: UnitPrices, held: HeldJob) -> bool:
    """
    Whether all records are in one band.
    """
    if len(prices.bands) == 1:
        return True
    return held.records is not None and held.largest_input_tokens <= prices.bands[1].above_input_tokens
