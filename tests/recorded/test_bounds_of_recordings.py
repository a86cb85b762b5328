"""
How tight bounds are: each recording that has its request, its bound beside what AWS reported.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

import pytest
from bounds import most_of

from bedrock_guard.domain.usage import total_input
from bedrock_guard.errors import UnpricedModel
from bedrock_guard.pricing.calculate import cost
from bedrock_guard.pricing.price_list import PriceList

from .recordings import Recording, is_missing, oracle
from .test_usage_of_recordings import ANSWERED, is_cut, read_call

pytestmark = is_missing

Ratios = Mapping[str, Sequence[float]]


@pytest.fixture(scope="module")
def prices() -> PriceList:
    return PriceList.packaged()


def bounded(prices: PriceList) -> Iterator[tuple[Recording, list[dict[str, int]], dict[str, int]]]:
    """
    Recordings whose request is there and whole, their bounds by the packaged limits, and what was used.
    """
    for recording in ANSWERED:
        call, used = read_call(recording), oracle(recording)
        if call is not None and used is not None and not is_cut(recording):
            yield recording, [dict(each) for each in most_of(call, prices.limits(call.model))], used


def show(title: str, ratios: Ratios) -> None:
    print(f"\n{title:<16}{'calls':>6}{'median':>9}{'95 %':>10}{'least':>8}")
    for family, found in [
        *sorted(ratios.items()),
        ("in all", [each for all_ in ratios.values() for each in all_]),
    ]:
        ordered = sorted(found)
        high = ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)]
        print(f"{family:<16}{len(ordered):>6}{median(ordered):>9.1f}{high:>10.1f}{ordered[0]:>8.2f}")


def test_no_bound_is_below_what_was_reported(prices: PriceList, capsys: pytest.CaptureFixture[str]) -> None:
    """
    In tokens read, in tokens written, and in money, by the limits and prices that calls are held by.
    """
    measures: dict[str, Callable[[Mapping[str, int]], int]] = {
        "input tokens": total_input,
        "output tokens": lambda usage: usage.get("output_tokens", 0),
    }
    ratios: dict[str, dict[str, list[float]]] = {title: defaultdict(list) for title in measures}
    ratios["USD"] = defaultdict(list)
    for recording, bounds, used in bounded(prices):
        for title, measure in measures.items():
            least, told = min(map(measure, bounds)), measure(used)
            assert least >= told, recording
            if told:
                ratios[title][recording.family].append(least / told)
        call = read_call(recording)
        assert call is not None
        try:
            unit = prices.find(call.model, region="us-east-1")
        except UnpricedModel:
            continue
        # Of its tokens: a guardrail's units are beside them.
        spent = cost({meter: used[meter] for meter in used if "token" in meter}, unit).nanousd
        most = max(cost(each, unit).nanousd for each in bounds)
        assert most >= spent, recording
        if spent:
            ratios["USD"][recording.family].append(most / spent)

    with capsys.disabled():
        for title, found in ratios.items():
            show(title, found)
    assert sum(map(len, ratios["input tokens"].values())) > 400
    # Text alone is held at four to seven times what it is; what a change of the bound makes worse shows here.
    assert median([each for found in ratios["input tokens"].values() for each in found]) < 8
