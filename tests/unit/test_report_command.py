"""
`bedrock-guard report`: sums by hand, caches, and journals that are long or odd.
"""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from journal import HAIKU, HOSTILE, NOON, NOVA, lengthen, made_entry, made_ledger, rewrite
from rich.console import Console
from typer.testing import CliRunner, Result

from bedrock_guard.cli import app
from bedrock_guard.cli.report_views import SPARE, spending_table
from bedrock_guard.cli.safe_text import plain
from bedrock_guard.cli.screen import fit
from bedrock_guard.domain.entry import Outcome
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.pricing.unit_prices import PriceBand, UnitPrices
from bedrock_guard.reports.cache_health import read_cache_health
from bedrock_guard.reports.grouping import read_kinds
from bedrock_guard.reports.moments import last_month, moment_of, read_month
from bedrock_guard.reports.spending import read_spenders, read_spending
from bedrock_guard.reports.totals import NO_CALLS

DAY_S = 86_400
UTC_ZONE = ZoneInfo("UTC")
EVERYTHING = EntryFilter()


def journal(*entries: Any) -> MemoryLedger:
    ledger = MemoryLedger(clock=lambda: NOON)
    for entry in entries:
        ledger.record(entry)
    return ledger


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["report", *arguments])


def told(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


# --- sums ------------------------------------------------------------------------------


MIXED = (
    made_entry("a", tags={"team": "ads"}),
    made_entry("b", tags={"team": "ads"}, outcome="lost", basis="estimated", cost_nanousd=1_000_000),
    made_entry("c", tags={"team": "seo"}, outcome="lost", basis="expired", cost_nanousd=2_000_000),
    made_entry("d", tags={"team": "seo"}, cost_nanousd=None, model="new", model_id="new"),
    made_entry("e", tags={"team": "seo"}, outcome="refused", count=7, cost_nanousd=0, usage={}),
    made_entry("f", outcome="would_refuse", count=2, cost_nanousd=0, usage={}),
    made_entry("g", outcome="stop", cost_nanousd=0, usage={}),
)


def test_what_aws_reported_is_told_apart_from_what_it_did_not() -> None:
    """
    A sum that hides how it was come by would be believed.
    """
    found = read_spending(journal(*MIXED), EVERYTHING, read_kinds(["tag:team"], UTC_ZONE))
    total, groups = found.total, {group.key: group.totals for group in found.groups}

    assert (total.calls, total.refused, total.would_refuse, total.unpriced) == (4, 7, 2, 1)
    assert (total.nanousd, total.reported_nanousd) == (3_084_000, 84_000)
    assert (total.estimated_nanousd, total.expired_nanousd) == (1_000_000, 2_000_000)
    assert total.usage == {"input_tokens": 4000, "output_tokens": 400}
    assert [group.key for group in found.groups] == [("seo",), ("ads",), ("",)], "the dearest first"
    assert (groups["seo",].calls, groups["seo",].refused, groups["ads",].nanousd) == (2, 7, 1_084_000)


def test_every_outcome_is_a_call_or_none() -> None:
    """
    One that is new is counted as a call until somebody decides here.
    """
    calls = {"answered", "rejected", "lost", "abandoned", "not_sent"}

    assert set(get_args(Outcome)) == calls | NO_CALLS
    assert not calls & NO_CALLS


@pytest.mark.parametrize(
    ("kind", "zone", "values"),
    [
        ("hour", "UTC", ["2026-11-22 12:00", "2026-11-23 12:00"]),
        ("day", "UTC", ["2026-11-22", "2026-11-23"]),
        ("day", "Pacific/Kiritimati", ["2026-11-23", "2026-11-24"]),
        ("week", "UTC", ["2026-W47", "2026-W48"]),
        ("month", "UTC", ["2026-11"]),
        ("model", "UTC", [NOVA, HAIKU]),
        ("family", "UTC", ["anthropic", "nova"]),
        ("operation", "UTC", ["Converse"]),
        ("tier", "UTC", ["default", "flex"]),
        ("region", "UTC", ["us-east-1"]),
        ("outcome", "UTC", ["answered"]),
        ("basis", "UTC", ["reported"]),
        ("latency", "UTC", ["standard"]),
        ("model_id", "UTC", [HAIKU, f"us.{NOVA}"]),
    ],
)
def test_entries_are_put_together_by(kind: str, zone: str, values: list[str]) -> None:
    """
    Weeks begin on Mondays, as budgets' do, and days in the zone of the budgets.
    """
    later = made_entry(
        "b", at_s=NOON + DAY_S, model=HAIKU, model_id=HAIKU, family="anthropic", service_tier="flex"
    )

    found = read_spending(journal(made_entry("a"), later), EVERYTHING, read_kinds([kind], ZoneInfo(zone)))

    assert sorted(group.key[0] for group in found.groups) == values
    assert found.total.nanousd == sum(group.totals.nanousd for group in found.groups) == 168_000


def test_time_comes_in_order_and_within_it_the_dearest_first() -> None:
    """
    A reader goes through months, and looks for who was dear in each.
    """
    entries = [
        made_entry(f"{team}{day}", at_s=NOON + day * DAY_S, tags={"team": team}, cost_nanousd=cost)
        for day, team, cost in ((1, "a", 1), (0, "b", 5), (1, "b", 9), (0, "a", 2))
    ]

    found = read_spending(journal(*entries), EVERYTHING, read_kinds(["tag:team", "day"], UTC_ZONE))

    assert [group.key for group in found.groups] == [
        ("b", "2026-11-22"),
        ("a", "2026-11-22"),
        ("b", "2026-11-23"),
        ("a", "2026-11-23"),
    ]


def test_an_hour_that_comes_twice_is_two() -> None:
    """
    When clocks are put back, it would seem to cost double.
    """
    (hour,) = read_kinds(["hour"], ZoneInfo("Europe/Berlin"))
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()

    shown = [hour.of(made_entry("a", at_s=first + 3600 * later)) for later in range(3)]

    assert shown == ["2026-10-25 02:00", "2026-10-25 02:00 again", "2026-10-25 03:00"]
    assert shown == sorted(shown)


def test_what_cannot_be_grouped_by_is_told() -> None:
    """
    With what can.
    """
    for names, says in (
        (["team"], "'team' is nothing to group by; there are model, "),
        (["day", "day"], "twice"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            read_kinds(names, UTC_ZONE)


def test_too_many_groups_are_summed_up_and_nothing_is_lost() -> None:
    """
    An end user's id as a tag must not fill the memory of a report; nor its length.
    """
    entries = [made_entry(f"e{number}", tags={"user": f"u{number}" * 500}) for number in range(5)]

    found = read_spending(journal(*entries), EVERYTHING, read_kinds(["tag:user"], UTC_ZONE), most_groups=3)

    assert found.rest is not None
    assert (len(found.groups), found.rest.nanousd, found.total.nanousd) == (3, 168_000, 420_000)
    assert len({group.key for group in found.groups}) == 3
    assert max(len(group.key[0]) for group in found.groups) < 300


def test_who_spends_counts_a_call_for_each_of_its_tags() -> None:
    """
    Nobody knows beforehand by which tag a loop will show.
    """
    found = read_spenders(journal(*MIXED), EVERYTHING)

    assert [(group.key, group.totals.nanousd) for group in found.groups] == [
        (("team", "seo"), 2_000_000),
        (("team", "ads"), 1_084_000),
    ]


def test_moments_that_no_calendar_holds_have_a_day() -> None:
    """
    A clock may be wrong, and an entry made up.
    """
    assert [moment_of(at_s).year for at_s in (-1.0, float("nan"), 1e300, float("inf"))] == [
        1970,
        1970,
        9999,
        9999,
    ]
    assert read_month("2026-02", UTC_ZONE) == (1_769_904_000.0, 1_772_323_200.0)
    assert last_month(NOON, UTC_ZONE) == "2026-10"
    for text in ("2026-13", "November", "9999-12", "0000-01"):
        with pytest.raises(ConfigurationError, match="is no month; write 2026-11"):
            read_month(text, UTC_ZONE)


# --- caches ----------------------------------------------------------------------------

# In steps: 10 uncached, 1 read, 12 or 20 written; above 1,000 tokens twice that.
RATES = {
    "input_tokens": 10,
    "cache_read_input_tokens": 1,
    "cache_write_5m_input_tokens": 12,
    "cache_write_1h_input_tokens": 20,
    "output_tokens": 50,
}
PRICES = UnitPrices(
    "m",
    "global",
    None,
    "default",
    "standard",
    (PriceBand(0, RATES), PriceBand(1000, {name: 2 * each for name, each in RATES.items()})),
)


def cached(id_: str, uncached: int, read: int = 0, written: int = 0, **changes: Any) -> Any:
    usage = {
        "input_tokens": uncached,
        "cache_read_input_tokens": read,
        "cache_write_5m_input_tokens": written,
    }
    return made_entry(id_, usage=usage, **changes)


def test_cache_figures_are_those_computed_by_hand() -> None:
    """
    What could be saved is the argument for a day's work.
    """
    ledger = journal(
        cached("a", 100, 300, 100, tags={"team": "good"}),
        cached("b", 900, at_s=NOON + DAY_S, tags={"team": "bad"}),
        cached("c", 2000, at_s=NOON + DAY_S, tags={"team": "long"}),
        cached("d", 5000, basis="estimated", outcome="lost"),
        made_entry("e", outcome="refused", cost_nanousd=0, usage={}),
    )
    (day,) = read_kinds(["day"], UTC_ZONE)

    found = read_cache_health(ledger, EVERYTHING, time=day, prices_of=lambda _: PRICES)
    total = found.total

    assert (total.calls, found.left_out, total.hit_share) == (3, 1, Fraction(300, 3400))
    assert total.uncached_steps == 100 * 10 + 900 * 10 + 2000 * 20
    assert total.could_save_steps == 100 * 9 + 900 * 9 + 2000 * 18
    assert total.saved_steps == 300 * 9 - 100 * 2
    assert [(key, figures.hit_share) for key, figures in found.over_time] == [
        ("2026-11-22", Fraction(300, 500)),
        ("2026-11-23", 0),
    ]
    assert [key for key, _ in found.offenders] == [("team", "long"), ("team", "bad"), ("team", "good")]


def test_models_without_a_price_or_a_cache_save_nothing() -> None:
    """
    What is not known is left out, and told.
    """
    (day,) = read_kinds(["day"], UTC_ZONE)
    uncached = UnitPrices("m", "global", None, "default", "standard", (PriceBand(0, {"input_tokens": 10}),))

    for prices, unpriced, money in ((None, 1, 0), (uncached, 0, 9000)):
        found = read_cache_health(
            journal(cached("a", 900)), EVERYTHING, time=day, prices_of=lambda _, p=prices: p
        )
        total = found.total
        assert (total.unpriced, total.uncached_steps, total.could_save_steps) == (unpriced, money, 0)


def test_cache_health_is_told_at_the_prices_of_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Nova Lite: 0.06 USD a million uncached, 0.015 read; an account may pay half.
    """
    monkeypatch.chdir(tmp_path)
    url = made_ledger(
        tmp_path,
        [
            cached("a", 1_000_000, 500_000, tags={"team": "ads"}),
            cached(
                "b",
                500_000,
                model_id="arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x",
                basis="estimated",
            ),
        ],
    )
    half = tmp_path / "half.toml"
    half.write_text(f'ledger = "{url}"\n[prices."{NOVA}"]\n"*" = "-50 %"\n')

    listed = told("cache", "--ledger", url)
    assert (listed["total"]["uncached_cost"], listed["total"]["could_save"], listed["total"]["saved"]) == (
        "0.06",
        "0.045",
        "0.0225",
    )
    assert (listed["estimated_calls_left_out"], listed["by_tag"][0]["value"]) == (1, "ads")
    assert told("cache", "--config", str(half))["total"]["uncached_cost"] == "0.03"
    text = run("cache", "--ledger", url, "--per", "month").stdout
    assert text.splitlines()[2].split()[:4] == ["2026-11", "1", "33.3", "%"]
    assert "Calls that are left out, as their usage is an estimate: 1." in text
    (row,) = csv.DictReader(io.StringIO(run("cache", "--ledger", url, "--csv").stdout))
    assert (row["day"], row["hit_share"], row["saved"]) == ("2026-11-22", "0.333333", "0.0225")
    assert run("cache", "--ledger", url, "--per", "year").exit_code == 2


# --- the command -----------------------------------------------------------------------


def test_report_by_prints_lines_and_a_total(tmp_path: Path) -> None:
    """
    And says how sure it is.
    """
    url = made_ledger(tmp_path, MIXED)

    lines = run("by", "tag:team", "--ledger", url).stdout.splitlines()

    assert lines[0].split() == [
        "tag:team",
        "calls",
        "refused",
        "in",
        "cached",
        "out",
        "cost",
        "reported",
        "estimated",
        "expired",
    ]
    assert lines[1].split() == [
        "seo",
        "2",
        "7",
        "2,000",
        "0",
        "%",
        "200",
        "$0.002",
        "$0.00",
        "$0.00",
        "$0.002",
    ]
    assert lines[3].split()[0] == "none"
    assert lines[4].split()[:2] == ["total", "4"]
    assert "$0.003 of $0.0031 is no figure of AWS's" in lines[5]
    assert "Calls without a price, which the cost leaves out: 1." in lines[5]


def test_report_by_json_and_csv_tell_the_same(tmp_path: Path) -> None:
    """
    Money is text, to the nano-dollar.
    """
    url = made_ledger(tmp_path, MIXED)

    found = told("by", "month", "tag:team", "--ledger", url, "--tag", "team=ads")
    (row,) = csv.DictReader(
        io.StringIO(run("by", "month", "tag:team", "--ledger", url, "--csv", "--tag", "team=ads").stdout)
    )

    (group,) = found["groups"]
    assert (group["month"], group["tag:team"], group["cost"], group["estimated"]) == (
        "2026-11",
        "ads",
        "0.001084",
        "0.001",
    )
    assert found["total"]["reported"] == "0.000084"
    assert {name: str(value) for name, value in group.items() if name != "usage"} == {
        name: value for name, value in row.items() if name != "usage"
    }


def test_many_lines_are_cut_and_told(tmp_path: Path) -> None:
    """
    A screen holds so many; the total counts all.
    """
    url = made_ledger(tmp_path, [made_entry("e0")])
    lengthen(url, 60)

    lines = run("by", "tag:user", "--ledger", url, "--rows", "2").stdout.splitlines()

    assert lines[3].strip() == "… 59 more"
    assert lines[4].split()[:2] == ["total", "61"]
    assert len(run("by", "tag:user", "--ledger", url, "--rows", "0").stdout.splitlines()) == 63


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]])
@pytest.mark.parametrize(
    "command", [["by", "model", "tag:x"], ["cache", "--by", "x"], ["cache", "--by", HOSTILE]]
)
def test_reports_are_safe_to_look_at(tmp_path: Path, command: list[str], form: list[str]) -> None:
    """
    Whoever opens the report of a month is seldom the one who wrote the tags.
    """
    url = made_ledger(
        tmp_path, [made_entry("a", tags={"x": HOSTILE, HOSTILE: "=1"}, model=HOSTILE), made_entry("b")]
    )
    rewrite(
        url,
        "b",
        usage={"new_meter": 5, "input_tokens": 1},
        outcome="frozen",
        basis="guessed",
        mood=[1],
        model=None,
    )

    done = run(*command, "--ledger", url, *form)

    assert done.exit_code == 0, done.stderr
    assert not {"\x1b", "\u202e", "\x00"} & set(done.stdout)
    if form == ["--csv"]:
        cells = [cell for row in csv.reader(io.StringIO(done.stdout)) for cell in row]
        assert [cell for cell in cells if cell[:1] in {"=", "+", "@"}] == []


@pytest.mark.parametrize("tag", ["[/x]", "[bold]x", "\x1b[2Jx"])
def test_a_name_of_a_tag_is_no_markup_in_the_head_either(tmp_path: Path, tag: str) -> None:
    """
    It is asked for by name, as it is.
    """
    url = made_ledger(tmp_path, [made_entry("a", tags={tag: "ads"})])

    done = run("by", f"tag:{tag}", "--ledger", url)

    assert done.exit_code == 0
    assert done.stdout.startswith(f"tag:{plain(tag)} ")


def test_a_mistake_in_a_report_is_told(tmp_path: Path) -> None:
    """
    Exit code 2, and no half of a report.
    """
    url = made_ledger(tmp_path, [])

    done = run("by", "team", "--ledger", url)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "'team' is nothing to group by; there are model, model_id" in done.stderr
    assert run("by", "model", "--ledger", "sqlite:///nowhere/x.db").exit_code == 1


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_figure_is_never_cut(width: int) -> None:
    """
    A narrow screen has fewer columns, and names on several lines; half a price would be another price.
    """
    out = Console(file=io.StringIO(), width=width)
    entry = made_entry("a", tags={"team": "a-team-of-a-rather-long-name"}, cost_nanousd=1_234_567_890_000)
    found = read_spending(journal(entry), EVERYTHING, read_kinds(["model", "tag:team"], UTC_ZONE))

    out.print(fit(spending_table(found, 0), out, SPARE))
    text = out.file.getvalue()  # type: ignore[attr-defined]

    assert text.count("$1,234.5679") == 4, "cost and reported, of the group and of all"
    assert max(map(len, text.splitlines())) <= width
    assert ("refused" in text) == (width == 140)
