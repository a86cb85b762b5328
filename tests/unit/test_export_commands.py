"""
`bedrock-guard report chargeback | focus`: lines that add up to what the ledger has.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from journal import HAIKU, HOSTILE, NOON, NOVA, made_entry, made_ledger, rewrite
from typer.testing import CliRunner, Result

from bedrock_guard.cli import app
from bedrock_guard.reports.focus import COLUMNS
from bedrock_guard.reports.spending import read_spending

DAY_S = 86_400
# Nova Lite at 0.06 USD a million in and 0.24 out: 333 in are 19,980 nano-dollars, 7 out 1,680.
USAGE = {"input_tokens": 333, "output_tokens": 7}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["report", *arguments])


def rows(done: Result) -> list[dict[str, str]]:
    assert done.exit_code == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout)))


MONTH = [
    made_entry("a", tags={"team": "ads", "user": "ann"}),
    made_entry(
        "b",
        tags={"team": "ads", "user": "bob"},
        outcome="lost",
        basis="estimated",
        cost_nanousd=1_000_000_001,
    ),
    made_entry("c", tags={"team": "seo"}, outcome="lost", basis="expired", cost_nanousd=5_000),
    made_entry("d", outcome="refused", count=3, usage={}, cost_nanousd=0),
    made_entry("e", tags={"team": "ads", "user": "ann"}, at_s=NOON - 22 * DAY_S),  # of October
    made_entry("f", at_s=NOON + 9 * DAY_S),  # of December
]


def test_a_month_is_allotted_to_teams_and_users(tmp_path: Path) -> None:
    """
    Whoever pays sees how sure it is; the lines come to the whole.
    """
    url = made_ledger(tmp_path, MONTH)

    done = run("chargeback", "2026-11", "--ledger", url)
    lines = rows(done)

    assert [(line["team"], line["user"], line["cost"]) for line in lines] == [
        ("ads", "bob", "1.000000001"),
        ("ads", "ann", "0.000084"),
        ("seo", "", "0.000005"),
        ("", "", "0.00"),
    ]
    assert (lines[0]["month"], lines[0]["currency"], lines[0]["estimated"], lines[0]["reported"]) == (
        "2026-11",
        "USD",
        "1.000000001",
        "0.00",
    )
    assert (lines[2]["expired"], lines[3]["refused"], lines[3]["calls"]) == ("0.000005", "3", "0")
    assert done.stderr.startswith("2026-11: $1.0001 in all. $1.0001 of $1.0001 is no figure of AWS's")

    told = json.loads(run("chargeback", "2026-11", "--ledger", url, "--json").stdout)
    assert told["total"]["cost"] == "1.000089001"
    assert sum(Decimal(group["cost"]) for group in told["groups"]) == Decimal("1.000089001")


def test_other_months_tags_and_zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    By default the last month that is over, in the zone of the budgets.
    """
    url = made_ledger(tmp_path, [*MONTH, made_entry("g", tags={"team": "late"}, at_s=NOON + 8.25 * DAY_S)])
    config = tmp_path / "zone.toml"
    config.write_text(f'ledger = "{url}"\ntime_zone = "Asia/Tokyo"\n')
    monkeypatch.setattr("time.time", lambda: NOON)

    last = rows(run("chargeback", "--ledger", url, "--by", "team"))
    assert [(line["month"], line["team"], line["cost"]) for line in last] == [("2026-10", "ads", "0.000084")]
    assert "user" not in last[0]
    assert "late" in {line["team"] for line in rows(run("chargeback", "2026-11", "--ledger", url))}
    assert "late" not in {
        line["team"] for line in rows(run("chargeback", "2026-11", "--config", str(config)))
    }
    assert run("chargeback", "soon", "--ledger", url).exit_code == 2


def test_tags_may_be_named_as_columns_are(tmp_path: Path) -> None:
    """
    Their values would take the place of figures, or give way to them.
    """
    url = made_ledger(tmp_path, [made_entry("a", tags={"cost": "centre 7", "month": "may", "team": "ads"})])
    asked = ("chargeback", "2026-11", "--by", "cost", "--by", "month", "--by", "team", "--ledger", url)

    (line,) = rows(run(*asked))
    (group,) = json.loads(run(*asked, "--json").stdout)["groups"]

    assert (line["month"], line["tag:month"]) == ("2026-11", "may")
    for told in (line, group):
        assert (told["tag:cost"], told["cost"], told["team"]) == ("centre 7", "0.000084", "ads")


def test_costs_that_cannot_be_allotted_are_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A line of others is nobody's to pay.
    """
    url = made_ledger(tmp_path, MONTH)
    monkeypatch.setattr(
        "bedrock_guard.cli.exports.read_spending", lambda *given: read_spending(*given, most_groups=1)
    )

    done = run("chargeback", "2026-11", "--ledger", url)

    assert (done.exit_code, done.stdout) == (1, "")
    assert "too many groups" in done.stderr


# --- FOCUS -----------------------------------------------------------------------------


def focus(url: str, *arguments: str) -> list[dict[str, Any]]:
    done = run("focus", "--ledger", url, "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_call_is_a_line_for_each_meter(tmp_path: Path) -> None:
    """
    By FOCUS's names, at the prices of the day.
    """
    url = made_ledger(tmp_path, [made_entry("a", usage=USAGE, cost_nanousd=21_660, tags={"team": "ads"})])

    sent, came = focus(url)

    assert {name: sent[name] for name in sent if name in COLUMNS} == sent
    assert (sent["SkuMeter"], sent["ConsumedQuantity"], sent["ConsumedUnit"]) == (
        "input_tokens",
        333,
        "Tokens",
    )
    assert (sent["ListUnitPrice"], sent["ListCost"], sent["ContractedCost"]) == (
        "0.00000006",
        "0.00001998",
        "0.00001998",
    )
    assert (came["SkuMeter"], came["ListCost"]) == ("output_tokens", "0.00000168")
    assert (sent["BillingPeriodStart"], sent["BillingPeriodEnd"]) == (
        "2026-11-01T00:00:00Z",
        "2026-12-01T00:00:00Z",
    )
    assert (sent["ChargePeriodStart"], sent["ChargePeriodEnd"]) == (
        "2026-11-22T12:00:00Z",
        "2026-11-22T12:00:01Z",
    )
    assert (sent["Tags"], sent["x_Basis"], sent["x_EntryId"]) == ({"team": "ads"}, "reported", "a")


def test_costs_add_up_to_the_ledger(tmp_path: Path) -> None:
    """
    Also where today's prices give other figures, the account has its own, or nobody knows one.
    """
    entries = [
        made_entry("exact", usage=USAGE, cost_nanousd=21_660),
        made_entry("cached", usage={"cache_read_input_tokens": 1, "output_tokens": 1}, cost_nanousd=255),
        made_entry("other", usage=USAGE, cost_nanousd=99_999),
        made_entry("own", usage=USAGE, cost_nanousd=10_830, has_own_prices=True, list_cost_nanousd=21_660),
        made_entry("unpriced", usage=USAGE, cost_nanousd=None, model=None, model_id="new.model-v1:0"),
        made_entry("haiku", usage={"input_tokens": 3}, cost_nanousd=3_000, model=HAIKU, model_id=HAIKU),
        made_entry("whole", outcome="lost", usage={}, basis="expired", cost_nanousd=5_000),
        made_entry("free", outcome="rejected", usage={}, cost_nanousd=0),
        made_entry("refused", outcome="refused", usage={}, cost_nanousd=0),
    ]
    url = made_ledger(tmp_path, entries)
    rewrite(url, "other", usage={"new_meter": 5, "input_tokens": 1}, mood=1, basis="guessed")
    costs: Counter[str] = Counter()
    meters: dict[str, list[Any]] = {}
    for line in focus(url):
        costs[line["x_EntryId"]] += Decimal(line["ContractedCost"] or 0)  # type: ignore[assignment]
        meters.setdefault(line["x_EntryId"], []).append(line.get("SkuMeter"))

    assert {name: int(cost * 10**9) for name, cost in costs.items()} == {
        "exact": 21_660,
        "cached": 255,
        "other": 99_999,
        "own": 10_830,
        "unpriced": 0,
        "haiku": 3_000,
        "whole": 5_000,
    }
    assert meters["exact"] == ["input_tokens", "output_tokens"]
    assert meters["other"] == meters["own"] == meters["unpriced"] == [None]
    own = next(line for line in focus(url) if line["x_EntryId"] == "own")
    assert (own["ContractedCost"], own["ListCost"]) == ("0.00001083", "0.00002166")


def test_what_rounding_leaves_over_is_on_the_last_line(tmp_path: Path) -> None:
    """
    A third of a nano-dollar on each line would be lost, or counted twice.
    """
    model = "amazon.nova-micro-v1:0"  # a token is 35 nano-dollars in, 140 out, 8.75 read: 183.75, rounded up
    usage = {"input_tokens": 1, "cache_read_input_tokens": 1, "output_tokens": 1}
    url = made_ledger(tmp_path, [made_entry("a", model=model, model_id=model, usage=usage, cost_nanousd=184)])

    lines = [(line["SkuMeter"], line["ListCost"]) for line in focus(url)]

    assert lines == [
        ("input_tokens", "0.000000035"),
        ("cache_read_input_tokens", "0.000000008"),
        ("output_tokens", "0.000000141"),
    ]


@pytest.mark.parametrize(("at_s", "duration_ms"), [(1e300, 9), (1e300, 10**30), (NOON, -(10**30))])
def test_moments_that_no_calendar_holds_are_charges_too(
    tmp_path: Path, at_s: float, duration_ms: int
) -> None:
    """
    One wrong clock must not keep a year's charges from whoever asks for them.
    """
    url = made_ledger(tmp_path, [made_entry("a")])
    rewrite(url, "a", at_s=at_s, duration_ms=duration_ms)

    for line in focus(url):
        assert line["ChargePeriodStart"] < line["ChargePeriodEnd"]
        assert line["BillingPeriodStart"] < line["BillingPeriodEnd"]


def test_focus_is_csv_that_is_safe_and_of_the_time_that_was_asked_for(tmp_path: Path) -> None:
    """
    It is opened in a spreadsheet.
    """
    entries = [
        made_entry("old", at_s=NOON - 30 * DAY_S),
        made_entry("new", tags={HOSTILE: HOSTILE}, model=HOSTILE, model_id="=1+1", operation="@SUM(1)"),
    ]
    url = made_ledger(tmp_path, entries)

    done = run("focus", "--ledger", url, "--month", "2026-11")
    (line,) = rows(done)

    assert tuple(line) == COLUMNS
    assert (line["ResourceId"], line["x_Operation"]) == ("'=1+1", "'@SUM(1)")
    assert not {"\x1b", "\u202e", "\x00"} & set(done.stdout)
    assert [each["x_EntryId"] for each in focus(url, "--month", "2026-10")] == ["old", "old"]
    assert len(focus(url, "--since", "2026-11-22T13:00Z", "--month", "2026-11")) == 0
    assert NOVA in {each["x_Model"] for each in focus(url, "--until", "2026-11-01")}
