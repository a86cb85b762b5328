"""
`bedrock-guard estimate`: a request's bound, and a month of traffic.
"""

from __future__ import annotations

import csv
import io
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from invocation_logs import HAIKU, NOVA, SONNET
from typer.testing import CliRunner, Result

from bedrock_guard import Budget, BudgetExceeded, Guard
from bedrock_guard.cli import app
from bedrock_guard.domain.budget import parse_limit

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "estimate-costs.md"
REQUEST = {
    "modelId": NOVA,
    "messages": [{"role": "user", "content": [{"text": "hello"}]}],
    "inferenceConfig": {"maxTokens": 300},
}
MONTH = (
    "--users",
    "100",
    "--conversations",
    "50/day",
    "--tokens",
    "500",
    "--output-share",
    "0.6",
    "--model",
    SONNET,
)


@pytest.fixture(autouse=True)
def _nothing_in_force(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    monkeypatch.setenv("BEDROCK_GUARD_CONFIG", str(path))


def run(*arguments: str, sent: str | None = None) -> Result:
    return CliRunner().invoke(app, ["estimate", *arguments], input=sent)


def month(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_projection_that_everybody_makes_first() -> None:
    """
    100 users, 50 conversations a day, 500 tokens at 40/60 on Claude 3 Sonnet at 3 and 15 USD a million:
    200 x 3 + 300 x 15 = 5,100 millionths, 150,000 times.
    """
    found = month(*MONTH)
    shown = run(*MONTH).stdout

    (only,) = found["models"]
    assert (found["conversations"], found["usage"]) == (150_000, {"input_tokens": 200, "output_tokens": 300})
    assert (only["conversation"], only["month"]) == ("0.0051", "765.00")
    assert (only["user"], only["day"]) == ("7.65", "25.50")
    assert shown.startswith("150,000 conversations: 100 users, 50 a day each, 30 days.\n")
    assert re.search(r"\$0\.0051 +\$0\.0051 +\$7\.65 +\$25\.50 +\$765\.00\n", shown)


def test_the_page_shows_what_the_command_says() -> None:
    """
    The figures of the page are those of the command, to the character.
    """
    (shown,) = re.findall(r"```console\n\$ bedrock-guard estimate --users[^`]*```", HOW_TO.read_text())
    command, output = shown.removeprefix("```console\n$ bedrock-guard ").removesuffix("```").split("\n\n", 1)
    arguments = command.replace("\\\n", " ").split()

    done = run(*arguments[1:])

    assert [line.rstrip() for line in done.stdout.splitlines()] == output.rstrip().splitlines()


def test_the_limits_that_hold_it_do() -> None:
    """
    A guard with the budget of a day lets all conversations of a user's day through, and not one more.
    """
    found = month(*MONTH[2:], "--users", "1")["models"][0]
    budget = Budget("day", found["day_budget"])
    body = {**REQUEST, "modelId": SONNET, "messages": [{"role": "user", "content": [{"text": "x" * 400}]}]}
    reply = {"output": {}, "usage": {"inputTokens": 200, "outputTokens": 300, "totalTokens": 500}}

    with Guard(budgets=[budget], ledger="memory://", clock=lambda: 1_795_161_600.0, sinks=[]) as guard:
        for _ in range(50):
            with guard.hold("Converse", body, region="us-east-1") as hold:
                assert hold.settle(reply).cost == Decimal("0.0051")
        with pytest.raises(BudgetExceeded), guard.hold("Converse", body, region="us-east-1"):
            pass

    for name in ("month_budget", "day_budget", "user_budget"):
        parse_limit(found[name])


def test_a_limit_holds_whole_conversations() -> None:
    """
    One or two in a month: a thirtieth of its cost a day, or two thirds of it a user, would hold none of them.
    """
    model = ("--model", SONNET, "--input-tokens", "200000", "--output-tokens", "30000")

    (one,) = month(*model, "--conversations", "1/month")["models"]
    (two,) = month(*model, "--conversations", "0.5/month", "--users", "3")["models"]

    assert (one["conversation"], one["day"], one["day_budget"]) == ("1.05", "0.035", "1.05 USD/day")
    assert (two["month"], two["user"], two["user_budget"]) == ("2.10", "0.70", "1.05 USD/month")
    assert run(*model, "--conversations", "1", "--days", "1").stdout.startswith(
        "1 conversation: 1 user, 1 a day each, 1 day.\n"
    )


def test_models_side_by_side() -> None:
    """
    Each once, in the order that was given; money in the same columns.
    """
    done = run(*MONTH, "--model", HAIKU, "--model", SONNET, "--csv")

    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    # A tenth more for a geography than 1 and 5 USD a million.
    assert [(row["model"], row["request"], row["month"]) for row in rows] == [
        (SONNET, "0.0051", "765.00"),
        (HAIKU, "0.00187", "280.50"),
    ]
    assert rows[1]["user_budget"] == "2.81 USD/month"


@pytest.mark.parametrize(
    ("rate", "conversations"),
    [("50", 1500), ("50/day", 1500), ("350/week", 1500), ("1500/month", 1500), ("0.1/day", 3), ("0.01", 1)],
)
def test_rates_of_conversations(rate: str, conversations: int) -> None:
    """
    A month is the days that are asked for, and one that has begun counts whole.
    """
    found = month("--model", NOVA, "--input-tokens", "10", "--conversations", rate)

    assert found["conversations"] == conversations


def test_caches_and_several_requests_a_conversation() -> None:
    """
    Half of 1,000 read at a tenth, a quarter written for an hour at twice, of Haiku 4.5 in its geography.
    """
    found = month(
        *("--model", HAIKU, "--conversations", "1", "--days", "1", "--requests", "3"),
        *("--input-tokens", "1000", "--output-tokens", "10"),
        *("--cache-read-share", "50%", "--cache-write-share", "0.25", "--cache-life", "1h"),
    )

    assert found["usage"] == {
        "input_tokens": 250,
        "cache_read_input_tokens": 500,
        "cache_write_1h_input_tokens": 250,
        "output_tokens": 10,
    }
    # (250 x 1 + 500 x 0.1 + 250 x 2 + 10 x 5) x 1.1 = 935 millionths.
    assert found["models"][0]["request"] == "0.000935"
    assert found["models"][0]["month"] == "0.002805"
    assert found["requests"] == 3


def test_a_part_of_a_token_is_output() -> None:
    """
    The dearer; and shares that add up to all leave no input behind.
    """
    found = month("--model", NOVA, "--conversations", "1", "--tokens", "10", "--output-share", "0.55")
    cached = month(
        *("--model", HAIKU, "--conversations", "0.5", "--input-tokens", "3"),
        *("--cache-read-share", "0.5", "--cache-write-share", "0.5"),
    )

    assert found["usage"] == {"input_tokens": 4, "output_tokens": 6}
    assert cached["usage"] == {"cache_read_input_tokens": 1, "cache_write_5m_input_tokens": 2}
    assert "0.50 a day each" in run("--model", NOVA, "--conversations", "0.5", "--input-tokens", "3").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "Name a model"),
        (("--model", NOVA), 2, "--conversations 50/day"),
        (("--model", NOVA, "--conversations", "9/fortnight", "--input-tokens", "1"), 2, "write 50/day"),
        (("--model", NOVA, "--conversations", "0", "--input-tokens", "1"), 2, "more than 0"),
        (("--model", NOVA, "--conversations", "5"), 2, "Say how large a request is"),
        (("--model", NOVA, "--conversations", "5", "--tokens", "5", "--input-tokens", "1"), 2, "how large"),
        (("--model", NOVA, "--conversations", "5", "--tokens", "5", "--output-share", "2"), 2, "no share"),
        (("--model", NOVA, "--conversations", "5", "--tokens", "5", "--output-share", "x"), 2, "no share"),
        *[
            (
                ("--model", NOVA, "--conversations", "5", "--tokens", "5", "--output-share", share),
                2,
                "no share",
            )
            for share in (
                "-0.1",
                "nan",
                "1e-99999999",
                "1e99999999",
                "0." + "0" * 5000 + "1",
                "",
                "%",
                "101%",
            )
        ],
        (("--model", NOVA, "--conversations", "9" * 5000, "--input-tokens", "1"), 2, "write 50/day"),
        (("--model", NOVA, "--conversations", f"0.{'0' * 5000}1", "--input-tokens", "1"), 2, "write 50/day"),
        (
            ("--model", NOVA, "--conversations", "5", "--input-tokens", "5", "--users", "1" + "0" * 300),
            2,
            "more than 9 billion USD",
        ),
        (("--model", NOVA, "--conversations", "5", "--input-tokens", "5", "--days", "0"), 2, "from 1 to 366"),
        (
            ("--model", NOVA, "--conversations", "5", "--input-tokens", "5", "--cache-life", "2h"),
            2,
            "none of 5m",
        ),
        (
            (
                *("--model", NOVA, "--conversations", "5", "--input-tokens", "5"),
                *("--cache-read-share", "0.6", "--cache-write-share", "0.6"),
            ),
            2,
            "more than all",
        ),
        (
            ("--model", "amazon.unheard-of-v1:0", "--conversations", "5", "--input-tokens", "5"),
            1,
            "No price for",
        ),
        (("--model", NOVA, "--operation", "Converse"), 2, "--operation is of a request"),
        (("-", "--days", "0"), 2, "--days is of a month"),
        (("-", "--csv"), 2, "--csv is of a month"),
        (("-", "--tier", "flex"), 2, "--tier is of a month"),
        (("-", "--json", "--csv"), 2, "one of them"),
        (("none.json",), 2, "'none.json' cannot be read"),
    ],
)
def test_what_is_not_understood_is_told(arguments: tuple[str, ...], code: int, told: str) -> None:
    """
    With what to write instead; and a missing price is no, not a mistake.
    """
    done = run(*arguments)

    assert (done.exit_code, done.stdout) == (code, "")
    assert told in done.stderr


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ("{", "is no JSON: Expecting"),
        ("[]", "is no JSON object"),
        ("{}", "names no modelId"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_what_is_no_request_is_told(sent: str, told: str) -> None:
    """
    As it stands in the file, whatever that is.
    """
    done = run("-", sent=sent)

    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr


def test_two_models_of_a_request_and_a_tag_without_a_value() -> None:
    """
    A request is sent to one.
    """
    two = run("-", "--model", NOVA, "--model", SONNET, sent=json.dumps(REQUEST))
    bad = run("-", "--tag", "user", sent=json.dumps(REQUEST))

    assert (two.exit_code, bad.exit_code) == (2, 2)
    assert "A request has one --model" in two.stderr
    assert "--tag 'user': write TAG=VALUE." in bad.stderr


def test_a_request_is_bounded_as_a_guard_bounds_it(tmp_path: Path) -> None:
    """
    Meter by meter, with the price it stands on, and what its limit is of it.
    """
    path = tmp_path / "request.json"
    path.write_text(json.dumps(REQUEST))

    told = json.loads(run(str(path), "--json").stdout)
    shown = run(str(path)).stdout

    with Guard(budgets=[], ledger="memory://", sinks=[]) as guard:
        bound = guard.estimate("Converse", **REQUEST)
    meters = {each["meter"]: each for each in told["meters"]}
    assert {name: each["quantity"] for name, each in meters.items()} == dict(bound.usage)
    assert Decimal(told["cost"]) == bound.cost
    assert sum(Decimal(each["cost"]) for each in meters.values()) == bound.cost
    # 300 of 0.24 USD a million.
    assert told["output"] == {"tokens": 300, "candidates": 1, "is_set": True, "cost": "0.000072"}
    assert meters["output_tokens"]["unit_price"] == "0.00000024"
    assert meters["output_tokens"]["price"]["layer"] == "packaged"
    assert "Its limit of 300 output tokens is $0.000072 of it." in shown
    assert told["budgets"] == []


@pytest.mark.parametrize(
    ("operation", "document", "told"),
    [
        (
            None,
            {"modelId": HAIKU, "body": {"max_tokens": 10, "messages": [], "n": 1}},
            "InvokeModel of us.anthropic",
        ),
        ("InvokeModel", {"inputText": "hi"}, "Nothing of it is output that a limit would shorten."),
        (None, {"messages": REQUEST["messages"]}, "It sets no limit on output, so the model's maximum"),
    ],
)
def test_requests_of_other_kinds(operation: str | None, document: dict[str, Any], told: str) -> None:
    """
    A body alone is one, where the operation and the model are named beside it.
    """
    model = (
        () if "modelId" in document else ("--model", "amazon.titan-embed-text-v2:0" if operation else NOVA)
    )
    named = () if operation is None else ("--operation", operation)

    done = run("-", *model, *named, sent=json.dumps(document))

    assert (done.exit_code, done.stderr) == (0, "")
    assert told in done.stdout


def test_a_request_beside_budgets(tmp_path: Path) -> None:
    """
    By the ledger's own rule, of windows, rates and what rolls; a soft limit says no, and refuses nobody.
    """
    path = tmp_path / "policy.toml"
    path.write_text(
        """
        ledger = "sqlite:///never-made.db"
        [budgets.day]
        limit = "1 USD/day"
        [budgets.user]
        limit = "3 requests/second"
        per = "user"
        [budgets.soft]
        limit = "10 tokens/rolling 2 hours"
        on_exceed = "warn"
        [budgets.others]
        limit = "0.01 USD"
        match = { model = "meta.*" }
        """
    )
    asked = ("-", "--config", str(path), "--tag", "user=ann")

    done = run(*asked, "--json", sent=json.dumps(REQUEST))
    shown = run(*asked, sent=json.dumps(REQUEST))

    assert done.exit_code == 0
    fits = {each["budget"]: each for each in json.loads(done.stdout)["budgets"]}
    assert {name: each["fits"] for name, each in fits.items()} == {"day": True, "user": True, "soft": False}
    assert (fits["user"]["per"], fits["user"]["holds"], fits["soft"]["enforced"]) == (
        {"user": "ann"},
        "1",
        False,
    )
    assert "no, and only warns" in shown.stdout
    assert list(tmp_path.glob("*.db")) == []

    path.write_text('budgets = { small = { limit = "0.00001 USD/day" } }')
    refused = run("-", "--config", str(path), sent=json.dumps(REQUEST))
    assert refused.exit_code == 1
    assert re.search(r"small +0\.00001 USD/day +all +\S+ +no", refused.stdout)


def test_own_prices_are_the_rule_that_an_estimate_stands_on(tmp_path: Path) -> None:
    """
    And a model without any is let through where settings say so, without a cost.
    """
    path = tmp_path / "own.toml"
    path.write_text(f'on_unpriced = "allow"\n[prices."{NOVA}"]\noutput_tokens = "1 USD/1M"\n')

    own = json.loads(run("-", "--config", str(path), "--json", sent=json.dumps(REQUEST)).stdout)
    none = run("-", "--config", str(path), "--model", "amazon.unheard-of-v1:0", sent=json.dumps(REQUEST))
    told = run(
        *("-", "--config", str(path), "--model", "amazon.unheard-of-v1:0", "--json"), sent=json.dumps(REQUEST)
    )

    path.write_text('on_unpriced = "upper_bound"')
    most = run("-", "--config", str(path), "--model", "amazon.unheard-of-v1:0", sent=json.dumps(REQUEST))

    assert "the dearest of the list" in most.stdout
    output = next(each for each in own["meters"] if each["meter"] == "output_tokens")
    assert (output["unit_price"], output["price"]["layer"]) == ("0.000001", "own")
    assert "no price" in none.stdout
    assert json.loads(told.stdout)["cost"] is None


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        (("model=x",), "'model' is a built-in tag"),
        (("user=",), "non-empty"),
        (("user=a", "user=b"), "user is given twice"),
    ],
)
def test_tags_that_no_program_could_set(tags: tuple[str, ...], told: str) -> None:
    """
    They are refused as they are there; nothing is left out without a word.
    """
    done = run("-", *[word for tag in tags for word in ("--tag", tag)], sent=json.dumps(REQUEST))

    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr


def test_a_request_of_somebody(tmp_path: Path) -> None:
    """
    Budgets of each principal are tried with the one that is named.
    """
    path = tmp_path / "policy.toml"
    path.write_text('[budgets.who]\nlimit = "1 USD/day"\nper = "principal"\n')

    done = run("-", "--config", str(path), "--tag", "principal=ann", "--json", sent=json.dumps(REQUEST))

    assert json.loads(done.stdout)["budgets"][0]["per"] == {"principal": "ann"}
