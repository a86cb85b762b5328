"""
`bedrock-guard dashboard`: every page and its JSON, asked of a real server.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dynamodb_engine
import pytest
from dashboards import MARKUP, Served, fill, served, spending, write_settings
from journal import HOSTILE, made_entry, made_ledger, rewrite

from bedrock_guard.dashboard import rendering
from bedrock_guard.dashboard.rendering import address, shown
from bedrock_guard.dashboard.views import journal
from bedrock_guard.domain.alert_claim import AlertClaim
from bedrock_guard.domain.entry import Attempt
from bedrock_guard.domain.entry_filter import EntryFilter
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.ledgers.memory import MemoryLedger

PAGES = [
    "/",
    "/spend",
    "/spend?last=7d&by=tag:team",
    "/caches?last=30d",
    "/live",
    "/entries",
    "/alerts",
    "/stops",
]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """
    A ledger with some of everything, hostile tags among it.
    """
    folder = tmp_path_factory.mktemp("busy")
    url = f"sqlite:///{(folder / 'ledger.db').as_posix()}"
    with pytest.MonkeyPatch.context() as patch, spending(url) as guard:
        patch.setenv("BEDROCK_GUARD_PRICES", "/nonexistent")
        guard.stop(reason=MARKUP, match={"team": "batch"})
        guard.stop(reason="for an hour", until=datetime.now(UTC) + timedelta(hours=1))
        guard.top_up("team", "5 USD", per={"team": "ads"}, reason="a launch")
        fill(url, 120)
        with served(None, write_settings(folder, url)) as dashboard:
            yield dashboard


class Page(HTMLParser):
    """
    What a browser makes of a page: the words, the tags, and what is in them.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(dashboard: Served, path: str) -> Page:
    answer = dashboard.get(path)
    assert answer.status == 200, answer.text
    return Page(answer.text)


def whole(dashboard: Served, path: str) -> Any:
    """
    The JSON at *path* once all of its period has been read; each request reads on.
    """
    while not (told := dashboard.get(path).json)["is_whole"]:
        pass
    return told


# --- every page ------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_sound(busy: Served, path: str) -> None:
    """
    One heading, landmarks, labels, captions; nothing inline that the policy would have to allow.
    """
    found = page(busy, path)
    tags = [tag for tag, _ in found.tags]
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]

    assert (tags.count("h1"), tags.count("main"), tags.count("nav") >= 1) == (1, 1, True)
    assert len(ids) == len(set(ids))
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in each for each in found.all("th"))
    labelled = {each.get("for") for each in found.all("label")}
    inputs = [each for each in found.all("input") if each.get("type") != "hidden"]
    assert all(each["id"] in labelled for each in inputs)
    assert not any(name == "style" or name.startswith("on") for _, given in found.tags for name in given)
    assert all((each.get("src") or "").startswith("/static/") for each in found.all("script"))
    links = [each["href"] or "" for each in (*found.all("a"), *found.all("link"))]
    assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in links)


@pytest.mark.parametrize("path", PAGES)
def test_text_of_others_is_text(busy: Served, path: str) -> None:
    """
    A tag may be an end user's.
    """
    answer = busy.get(path)

    assert answer.status == 200
    assert not {"\x1b", "\u202e", "\x00"} & set(answer.text)
    assert "<script>alert" not in answer.text
    assert "<img src=x" not in answer.text
    assert "alert(1)" not in [tag for tag, _ in Page(answer.text).tags]


@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_data_too(busy: Served, path: str) -> None:
    """
    At the same address, or by what is accepted.
    """
    where, _, query = path.partition("?")
    named = busy.get(f"{'/overview' if where == '/' else where}.json?{query}")
    accepted = busy.get(path, Accept="application/json")

    assert named.headers["Content-Type"] == accepted.headers["Content-Type"] == "application/json"
    assert named.json.keys() == accepted.json.keys()
    assert accepted.headers["Vary"] == "Accept"
    assert named.body.isascii()
    assert busy.get(path, Accept="text/html,application/json").text.startswith("<!doctype html>")


def test_the_overview_tells_spent_from_pending(busy: Served) -> None:
    """
    What is pending may come back.
    """
    told = busy.get("/overview.json").json
    found = page(busy, "/")
    balances = {(each["budget"], *each["per"].values()): each for each in told["balances"]}

    assert balances[("day",)]["spent"] == "0.0002406"
    assert float(balances[("day",)]["pending"]) > 0.00024
    assert told["balances"][0]["budget"] == "day"  # the fullest
    assert {rect["class"] for rect in found.all("rect")} >= {"track", "spent", "pending"}
    meters = [each for each in found.all("div") if each.get("role") == "meter"]
    assert meters[0]["aria-valuenow"] == "99.4"
    assert "spent $0.0002406, pending $0.0002568, of $0.0005/day" in (meters[0]["aria-valuetext"] or "")
    assert "Stopped: Calls with team=batch" in found.words
    assert len(told["stops"]) == 2


def test_a_ledger_that_is_empty_or_unknown_is_shown(tmp_path: Path) -> None:
    """
    The first thing that a newcomer sees; and budgets that stand in a program's code alone.
    """
    empty = made_ledger(tmp_path, [])
    with served(empty) as dashboard:
        assert "No budget is set, and nothing is counted in this ledger yet." in page(dashboard, "/").words
        assert "No entry is like that." in page(dashboard, "/entries").words
        assert "No call of this period has tags." in page(dashboard, "/caches").words
        for path in PAGES:
            assert dashboard.get(path).status == 200
    url = f"sqlite:///{(tmp_path / 'other.db').as_posix()}"
    with spending(url), served(url) as dashboard:
        found = page(dashboard, "/")
        assert "the limit is known to its program" in found.words
        assert not [each for each in found.all("div") if each.get("role") == "meter"]


@pytest.mark.slow
def test_a_ledger_on_dynamodb_is_shown() -> None:
    """
    By the same readers.
    """
    with dynamodb_engine.quick(), spending(url := dynamodb_engine.table_url()), served(url) as dashboard:
        for path in ("/", "/entries", "/caches", "/alerts", "/stops", "/live"):
            assert dashboard.get(path).status == 200, path
        (entry,) = dashboard.get("/entries.json?tag=user=ann").json["entries"]
        link = next(
            each["href"] for each in page(dashboard, "/entries").all("a") if "/entry?" in (each["href"] or "")
        )
        assert entry["cost"] == "0.0002406"
        assert "us-east-1" in page(dashboard, link or "").words
        assert whole(dashboard, "/spend.json")["total"]["calls"] == 1


# --- spend and caches ------------------------------------------------------------------


def test_spend_is_told_by_time_and_word(tmp_path: Path) -> None:
    """
    The parts add up to all of it, in the chart too.
    """
    now = time.time()
    entries = [
        made_entry(f"t{number}", at_s=now - 7200, tags={"team": f"t{number}"}, cost_nanousd=number * 10**6)
        for number in range(60)
    ]
    refused = made_entry("r", at_s=now, outcome="refused", cost_nanousd=0, usage={}, count=7)
    with served(made_ledger(tmp_path, [*entries, refused])) as dashboard:
        told = whole(dashboard, "/spend.json?by=tag:team")
        found = page(dashboard, "/spend?by=tag:team&last=24h")
        only = whole(dashboard, "/spend.json?tag=team=t59")

    assert (told["total"]["cost"], told["total"]["calls"], told["total"]["refused"]) == ("1.77", 60, 7)
    assert [each["name"] for each in told["groups"][:2]] == ["t59", "t58"]
    assert (len(told["groups"]), told["more_groups"], len(told["times"])) == (50, 11, 24)
    assert [each["name"] for each in told["series"]] == [
        *(f"t{number}" for number in range(59, 52, -1)),
        "others",
    ]
    assert sum(float(cost) for each in told["series"] for cost in each["costs"]) == pytest.approx(1.77)
    assert only["total"]["cost"] == "0.059"
    assert "11 more are cheaper" in found.words
    assert re.findall(r"(t59)\s*1\s*0\s*1,000\s*0 %\s*100\s*(\$[\d.]+)", found.words)[0] == ("t59", "$0.059")


def test_too_many_users_are_others(tmp_path: Path) -> None:
    """
    Memory stays bounded, and the sum right.
    """
    now = time.time()
    entries = [
        made_entry(f"e{number}", at_s=now - number * 3, tags={"u": f"u{number}"}) for number in range(450)
    ]
    with served(made_ledger(tmp_path, entries)) as dashboard:
        told = whole(dashboard, "/spend.json?by=tag:u")
        caches = whole(dashboard, "/caches.json")
        words = page(dashboard, "/spend?by=tag:u").words

    others = told["others"]["calls"]
    assert others >= 250
    assert told["total"]["calls"] == 450
    assert len(told["groups"]) + told["more_groups"] + others == 450
    assert "others" in words
    assert caches["is_cut"]


def test_caches_are_told_by_time_and_tag(tmp_path: Path) -> None:
    """
    A cache that is off shows as a line that falls.
    """
    now = time.time()
    good = {"input_tokens": 1000, "output_tokens": 10, "cache_read_input_tokens": 3000}
    entries = [
        made_entry("good", at_s=now - 7200, usage=good, reported_usage=good, tags={"team": "ads"}),
        made_entry("bad", at_s=now, tags={"team": ""}),
        made_entry("lost", at_s=now, outcome="lost", basis="estimated"),
        made_entry("strange", at_s=now, model="x.y-v1:0", model_id="x.y-v1:0"),
    ]
    with served(made_ledger(tmp_path, entries)) as dashboard:
        told = whole(dashboard, "/caches.json")
        words = page(dashboard, "/caches").words

    shares = [each["hit_share"] for each in told["over_time"]]
    assert (shares[-3], shares[-2], shares[-1], told["total"]["hit_share"]) == (0.75, None, 0.0, 0.5)
    assert told["left_out"] == told["total"]["unpriced_calls"] == 1
    assert [(each["tag"], each["value"]) for each in told["offenders"]] == [("team", ""), ("team", "ads")]
    assert "50 %" in words
    assert "AWS did not report their usage: 1 calls" in words


def test_doubts_are_told(tmp_path: Path) -> None:
    """
    What AWS did not report stands beside the sum.
    """
    entries = [made_entry("x", at_s=time.time(), outcome="lost", basis="expired", cost_nanousd=10**9)]
    with served(made_ledger(tmp_path, entries)) as dashboard:
        assert "$1.00 of $1.00 is no figure of AWS's" in page(dashboard, "/spend").words


# --- entries ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def varied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    now = time.time()
    attempts = (Attempt("rejected", 429, "ThrottlingException"), Attempt("answered", 200, None, {}, 84_000))
    entries = [made_entry(f"e{number}", at_s=now - 10 - number) for number in range(130)]
    entries += [
        made_entry("old", at_s=now - 86_400 * 60, tags={"team": "ads"}),
        made_entry(
            "other", at_s=now - 9, model="m", model_id="us.m", operation="InvokeModel", family="f", region="r"
        ),
        made_entry("dear", at_s=now - 8, cost_nanousd=2 * 10**9, service_tier="flex", basis="estimated"),
        made_entry("again", at_s=now - 7, attempts=attempts, usage={"input_tokens": 5_000_000}),
        made_entry(
            "refused", at_s=now - 6, outcome="refused", budget="day", reason="budget", usage={}, attempts=()
        ),
        made_entry(
            "hostile", at_s=now - 5, tags={"user": HOSTILE, "a=b": "c", "\ud800": "x", MARKUP: MARKUP}
        ),
        made_entry("new/../er?#", at_s=now - 4, tags={"team": "ads"}),
    ]
    url = made_ledger(tmp_path_factory.mktemp("varied"), entries)
    rewrite(
        url, "new/../er?#", spun_by="a newer version", deep={"a": [1]}, outcome="teleported", basis="guessed"
    )
    with served(url) as dashboard:
        yield dashboard


def ids(dashboard: Served, query: str) -> list[str]:
    answer = dashboard.get(f"/entries.json?{query}")
    assert answer.status == 200, answer.text
    return [each["id"] for each in answer.json["entries"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("model=m", ["other"]),
        ("model_id=us.m", ["other"]),
        ("operation=InvokeModel", ["other"]),
        ("family=f", ["other"]),
        ("region=r", ["other"]),
        ("tier=flex", ["dear"]),
        ("basis=estimated", ["dear"]),
        ("cost_min=1", ["dear"]),
        ("cost_min=1&cost_max=1.5", []),
        ("cost_min=1&cost_max=1e20", ["dear"]),
        ("cost_min=1e999999", []),
        ("tokens_min=1000000", ["again"]),
        ("attempts_min=2", ["again"]),
        ("status=429", ["again"]),
        ("error_code=ThrottlingException", ["again"]),
        ("outcome=refused", ["refused"]),
        ("tag=team=ads", ["new/../er?#", "old"]),
        ("tag=team=ads&since=1d", ["new/../er?#"]),
        ("tag=team=ads&until=1d", ["old"]),
        ("tokens_max=0&since=7d", ["refused"]),
        ("since=&model=m&tag=&until=", ["other"]),
    ],
)
def test_every_filter_narrows(varied: Served, query: str, found: list[str]) -> None:
    """
    By the names of the options, and an empty field is none.
    """
    assert ids(varied, query) == found
    assert varied.get(f"/entries?{query}").status == 200


@pytest.mark.parametrize("query", ["", "operation=Converse", "since=2d", "tag=no=ne&outcome=answered"])
def test_pages_are_walked_to_the_end(varied: Served, query: str) -> None:
    """
    Each entry once, newest first, with the filters kept in the address.
    """
    path, seen = f"/entries?{query}", []
    while path:
        told = varied.get(path.replace("/entries?", "/entries.json?")).json
        assert all(part in path for part in query.split("&")) or "tag" in query
        seen += [each["id"] for each in told["entries"]]
        links = [each for each in page(varied, path).all("a") if each.get("rel") == "next"]
        assert len(links) == bool(told["next"])
        path = told["next"]

    assert len(seen) == len(set(seen)) == {"": 137, "operation=Converse": 136, "since=2d": 136}.get(query, 0)


def test_filters_in_force_can_be_taken_back(varied: Served) -> None:
    """
    One by one; and the form shows what is asked for.
    """
    found = page(varied, "/entries?tag=team=ads&tag=x=y&model=m&region=%22%3E")
    links = {each["aria-label"]: each["href"] for each in found.all("a") if "aria-label" in each}

    assert links["Without tag x=y"] == "/entries?model=m&region=%22%3E&tag=team%3Dads"
    assert {(each["name"], each["value"]) for each in found.all("input") if each.get("value")} == {
        ("tag", "team=ads"),
        ("tag", "x=y"),
        ("model", "m"),
        ("region", '">'),
    }
    assert [each for each in found.all("details") if "open" in each]


def test_tags_lead_to_calls_like_it(varied: Served) -> None:
    """
    Where an address can say so.
    """
    found = page(varied, "/entries?outcome=answered&tag=team=x")
    own = [each["href"] for each in page(varied, "/entries").all("a") if each.get("class") == "tag"]

    assert "No entry is like that" in found.words
    assert own == ["/entries?tag=team%3Dads"]
    hostile = page(varied, f"/entries?tag={quote(f'user={HOSTILE}')}")
    assert [each["data-id"] for each in hostile.all("tr") if "data-id" in each] == ["hostile"]


def test_one_entry_is_told_whole(varied: Served) -> None:
    """
    With what a newer version wrote of it left out, and 10 KB of a tag.
    """
    links = {
        each["href"] or "" for each in page(varied, "/entries").all("a") if "/entry?" in (each["href"] or "")
    }
    new = next(link for link in links if "new" in link)
    hostile = next(link for link in links if "hostile" in link)

    assert varied.get(new.replace("/entry?", "/entry.json?")).json["outcome"] == "teleported"
    assert "teleported" in page(varied, new).words
    assert "y" * 10_000 in page(varied, hostile).words
    assert "\\u202eevil" in page(varied, hostile).words
    again = next(each for each in varied.get("/entries.json").json["entries"] if each["id"] == "again")
    words = page(varied, f"/entry?at={_seconds(varied, 'again')}&id=again").words
    assert (len(again["attempts"]), "ThrottlingException" in words) == (2, True)


def _seconds(dashboard: Served, id_: str) -> str:
    links = [each["href"] or "" for each in page(dashboard, "/entries").all("a")]
    found = next(
        re.fullmatch(rf"/entry\?at=([\d.]+)&id={id_}", link) for link in links if f"id={id_}" in link
    )
    assert found
    return found[1]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/entries?since=soon", 400, "since 'soon' is no time; write 2h or 7d (ago)"),
        (f"/entries?{'&'.join(f'tag=t{number}=x' for number in range(21))}", 400, "21 tags are too many; 20"),
        ("/entries?cost_min=much", 400, "cost-min 'much' is no amount of USD"),
        ("/entries?tokens_min=-1", 400, "tokens-min '-1' is no whole number."),
        ("/entries?status=%C2%B2", 400, "status '²' is no whole number."),
        (f"/entries?tokens_max={'9' * 4000}", 400, "is no whole number."),
        ("/entries?tag=x", 400, "tag 'x': write TAG=VALUE."),
        ("/entries?tag=x=1&tag=x=2", 400, "x is given twice"),
        ("/entries?after=nonsense", 400, "is no place in a ledger's entries"),
        (f"/entries?after=1:{'9' * 30}", 400, "after is no place in a ledger's entries"),
        ("/entries?before=nan", 400, "before 'nan' is no time in seconds since 1970."),
        ("/entries?before=x", 400, "before 'x' is no time in seconds since 1970."),
        ("/spend?last=forever", 400, "last 'forever' is no period; there are 24h, 7d, 30d, 90d."),
        ("/spend?by=hour", 400, "by 'hour' is nothing to tell apart"),
        ("/spend?by=tag:", 400, "is nothing to group by"),
        ("/entries?outcome=teleported", 400, "outcome is 'teleported'; it is one of answered"),
        ("/entry", 400, "An entry is found by its time and its id"),
        ("/entry?at=1e300&id=x", 404, "There is no such entry"),
        ("/entry?at=0&id=x", 404, "There is no such entry"),
        ("/nothing", 404, "There is no such page."),
        ("/live.events?tag=x", 400, "tag 'x': write TAG=VALUE."),
    ],
)
def test_a_mistake_is_told(varied: Served, path: str, status: int, says: str) -> None:
    """
    As a page, and to programs as data.
    """
    answer = varied.get(path)
    data = varied.get(path, Accept="application/json")

    assert (answer.status, data.status) == (status, status)
    assert says in Page(answer.text).words
    assert says in data.json["error"]


@pytest.mark.parametrize("rare", [7, 59, 60, 61])
def test_what_is_rare_is_looked_for_as_long_as_a_request_may_take(rare: int) -> None:
    """
    And the rest with the next: nothing is skipped, and nothing told twice.
    """
    ledger, seconds = MemoryLedger(clock=lambda: 1e6), count()
    for number in range(200):
        ledger.record(made_entry(f"e{number}", at_s=1e6 - number, tags={"rare": str(number % 100)}))
    where, seen, looked_to = EntryFilter(tags={"rare": str(rare)}, since=1e6 - 290), [], []
    before = None
    while before is None or looked_to[-1] is not None:
        # By this timer each look takes a second, so that each request looks at one minute.
        found = journal.look(ledger, where, now=1e6, before=before, timer=lambda: float(next(seconds)))
        seen += [entry.id for entry in found.entries]
        looked_to.append(found.looked_to_s)
        before = float(found.more.get("before", 0))

    at_once = journal.look(ledger, where, now=1e6, timer=lambda: 0.0)
    assert (seen, at_once.more) == ([entry.id for entry in at_once.entries], {})
    assert seen == [f"e{rare}", f"e{rare + 100}"]
    assert looked_to == [1e6 - 60, 1e6 - 120, 1e6 - 180, 1e6 - 240, None]


def test_a_page_that_is_full_goes_on_where_it_ended() -> None:
    """
    In the midst of a stretch, and at its very end.
    """
    ledger = MemoryLedger(clock=lambda: 1e6)
    for number in range(150):
        # Fifty in the first minute, a hundred in the next.
        ledger.record(made_entry(f"e{number}", at_s=1e6 - (number if number < 50 else 60 + number / 10)))
    where, seen, more = EntryFilter(family="nova", since=1e6 - 1000), [], {"before": None}
    while more:
        found = journal.look(
            ledger, where, now=1e6, after=more.get("after"), before=_float(more.get("before"))
        )
        seen.append([entry.id for entry in found.entries])
        more = found.more
        assert found.looked_to_s is None

    assert [len(ids) for ids in seen] == [50, 50, 50, 0][: len(seen)]
    assert [id_ for ids in seen for id_ in ids] == [f"e{number}" for number in range(150)]


def test_a_time_without_calls_is_passed_over() -> None:
    """
    A stretch that has grown in it would hold all of what lies behind.
    """

    class Watched(MemoryLedger):
        def entries(self, where: EntryFilter, **named: Any) -> Any:
            if where.model:
                looked.append((where.since, where.until))
            return super().entries(where, **named)

    looked: list[Any] = []
    ledger, month = Watched(clock=lambda: 1e8), 30 * 86_400
    for at_s in (1e8, 1e8 - month, 1e8 - month - 1, 1e8 - 2 * month):
        ledger.record(made_entry(f"e{at_s}", at_s=at_s))
    found = journal.look(ledger, EntryFilter(model="none"), now=1e8, timer=lambda: 0.0)

    assert found == ([], {}, None)
    assert [round(since - 1e8) for since, _ in looked] == [-60, -month - 60, -2 * month - 60]


def _float(text: str | None) -> float | None:
    return None if text is None else float(text)


def test_a_page_that_stops_early_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An empty page must not be taken for an empty ledger.
    """
    monkeypatch.setattr(journal, "_BUDGET_S", 0.0)
    ads = made_entry("old", at_s=time.time() - 86_400, tags={"team": "ads"})
    url = made_ledger(tmp_path, [ads, made_entry("new", at_s=time.time())])
    with served(url) as dashboard:
        first = dashboard.get("/entries.json?tag=team=ads").json
        words = page(dashboard, "/entries?tag=team=ads").words

    assert (first["entries"], first["next"] is None, first["looked_to"] is None) == ([], False, False)
    assert "and found none so far; there may be older ones." in words


# --- alerts and stops ------------------------------------------------------------------


def test_alerts_tell_what_the_ledger_knows(tmp_path: Path) -> None:
    """
    Thresholds that are reached, what nobody has told yet, and what was refused.
    """
    url = f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    with spending(url, mode="enforce"):
        fill(url, 60)
        ledger = open_ledger(url, clock=time.time)
        told = {
            "id": "a1",
            "kind": "ledger",
            "threshold": None,
            "budget": None,
            "unit": None,
            "per": {},
            "window": {"start": "2026-11-22T00:00:00+00:00", "end": None},
            "spent": None,
            "limit": None,
            "text": MARKUP,
            "at": "2026-11-22T12:00:00+00:00",
        }
        ledger.claim_alert(AlertClaim("a1", json.dumps(told)))
        ledger.claim_alert(AlertClaim("a2", '{"from": "a newer version"}'))
        ledger.close()
        with served(None, write_settings(tmp_path, url)) as dashboard:
            data = dashboard.get("/alerts.json").json
            found = page(dashboard, "/alerts")

    # 0.0002406 of 0.0005 is below the first threshold; of 0.0006 too.
    assert data["reached"] == []
    assert [(each["id"], each["text"]) for each in data["waiting"]] == [
        ("a1", MARKUP),
        ("a2", "A newer version wrote it."),
    ]
    assert [each["outcome"] for each in data["newest"]] == ["refused", "refused"]
    assert MARKUP in found.words


def test_a_threshold_that_is_reached_is_an_alert(tmp_path: Path) -> None:
    """
    By what is spent, as alerts are; what is pending may come back.
    """
    url = f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f'ledger = "{url}"\ntime_zone = "Europe/Berlin"\n[budgets.day]\nlimit = "0.0003 USD/day"\n'
    )
    with spending(url), served(None, str(settings)) as dashboard:
        data = dashboard.get("/alerts.json").json
        words = page(dashboard, "/alerts").words

    assert data["reached"] == [{"budget": "day", "per": {}, "threshold": 0.8, "spent_share": 0.802}]
    assert "80 %" in words
    assert "165.8 %" in words


def test_of_many_balances_the_fullest_are_shown(tmp_path: Path) -> None:
    """
    A page that no browser can show helps nobody; how many more there are is said.
    """
    url = f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    with spending(url):
        pass
    with sqlite3.connect(url.removeprefix("sqlite:///")) as db:
        db.executemany(
            "INSERT INTO balance (budget, rule, per, window_start, spent) "
            "SELECT budget, rule, ?, window_start, ? FROM balance WHERE budget = 'team' LIMIT 1",
            [(json.dumps([["team", f"t{number}"]]), (19_700 + number) * 10**6) for number in range(300)],
        )
    db.close()
    with served(None, write_settings(tmp_path, url)) as dashboard:
        told, told_of_alerts = dashboard.get("/overview.json").json, dashboard.get("/alerts.json").json
        words = page(dashboard, "/alerts").words

    assert told["balances"][0]["per"] == told_of_alerts["reached"][0]["per"] == {"team": "t299"}
    assert (len(told["balances"]), told["more_balances"]) == (200, 106)
    assert (len(told_of_alerts["reached"]), told_of_alerts["more_reached"]) == (200, 101)
    assert "The fullest 200 are shown; 101 more" in words


def test_stops_and_top_ups_in_force_are_listed(busy: Served) -> None:
    """
    With who, why, and until when.
    """
    data = busy.get("/stops.json").json
    words = page(busy, "/stops").words

    assert [each["reason"] for each in data["stops"]] == [MARKUP, "for an hour"]
    assert data["top_ups"][0]["amount"] == "5.00"
    for word in (MARKUP, "resumed", "5 USD", "team=ads", "a launch"):
        assert word in words, word


# --- text ------------------------------------------------------------------------------


def test_values_of_templates_are_spelled_and_addresses_written() -> None:
    """
    Half of a surrogate pair is no text in UTF-8, and no answer could be sent with it.
    """
    assert (shown("a\u202eb\ud800\n"), shown(None), shown(5)) == ("a\\u202eb\\ud800\\x0a", "", "5")
    assert address("/x", [("a", "1"), ("b", "")], b="2", c="") == "/x?a=1&b=2"
    assert address("/x") == "/x"


def test_a_ledger_that_breaks_is_told(tmp_path: Path) -> None:
    """
    The page says what to do; the server goes on.
    """
    url = made_ledger(tmp_path, [made_entry("a", at_s=time.time())])
    with served(url) as dashboard:
        assert dashboard.get("/entries").status == 200
        for path in tmp_path.glob("ledger.db*"):
            path.write_bytes(b"no database" * 1000)
        answer = dashboard.get("/entries")
        assert (answer.status, dashboard.get("/stops.json").status) == (503, 503)
        assert "cannot be used" in Page(answer.text).words


# --- colours ---------------------------------------------------------------------------


def test_colours_can_be_told_from_their_grounds() -> None:
    """
    As WCAG AA has it: 4.5 for text, 3 for bars and lines; light and dark.
    """
    css = (Path(rendering.__file__).parent / "static" / "dashboard.css").read_text()
    blocks = re.findall(r"{\s*(--ground:[^}]+)}", css)
    assert len(blocks) == 3
    grounds = {"soft": ("ground", "card", "hover"), "accent": ("ground", "card", "hover", "track")}
    texts = [(text, ground) for text, all_of in grounds.items() for ground in all_of]
    texts += [("text", "track"), *((tone, f"{tone}-ground") for tone in ("good", "warn", "bad"))]
    for block in blocks:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        marks = [(name, "card") for name in colours if name.startswith(("fill-", "series-"))]
        low = {pair for pair in texts if _contrast(*(colours[name] for name in pair)) < 4.5}
        low |= {pair for pair in marks if _contrast(*(colours[name] for name in pair)) < 3}
        assert low == set()


def _contrast(one: str, other: str) -> float:
    darker, lighter = sorted(_luminance(colour) for colour in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
