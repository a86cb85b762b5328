"""
`bedrock-guard prices`, as a person and as a program run it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import pytest
import time_machine
from botocore.exceptions import ClientError, NoCredentialsError
from made_facts import fact, facts
from price_records import bulk, marketplace, record, saved
from typer.testing import CliRunner, Result

from bedrock_guard.cli import app
from bedrock_guard.pricing.generate import generate
from bedrock_guard.pricing.price_checks import check_prices
from bedrock_guard.pricing.price_list import PriceList

HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
INPUT = marketplace("Claude Haiku 4.5", "InputTokenCount", "1.2", "1M tokens", sku="HAIKU")


@pytest.fixture(autouse=True)
def overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BEDROCK_GUARD_PRICES", str(tmp_path / "prices.json"))
    return tmp_path / "prices.json"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["prices", *map(str, arguments)])


def told(*arguments: object) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


# --- show ----------------------------------------------------------------------------


def test_show_tells_each_meters_price_and_where_it_is_from() -> None:
    """
    A figure without its source cannot be argued with.
    """
    shown = told("show", HAIKU, "--region", "us-east-1")
    meters = {each["meter"]: each for each in shown["meters"]}

    assert (shown["model"], shown["geography"]) == ("anthropic.claude-haiku-4-5-20251001-v1:0", "us")
    assert meters["input_tokens"] == {
        "meter": "input_tokens",
        "above_input_tokens": 0,
        "usd_per_unit": "0.0000011",
        "usd_per_million": "1.1",
        "is_bound": False,
        "source": "aws-price-list aws-pricing-page genai-prices litellm",
        "grade": "AWS-row",
        "layer": "packaged",
        "rate_code": None,
        "effective_from": None,
        "effective_to": None,
        "published": None,
    }
    assert meters["guardrail_word_policy_units"]["usd_per_unit"] == "free"


def test_show_marks_what_is_a_bound() -> None:
    """
    A price that was worked out looks like any other, and is not one.
    """
    shown = told("show", HAIKU, "--region", "us-east-1", "--tier", "priority")
    (own,) = [each for each in shown["meters"] if each["meter"] == "input_tokens"]

    assert (own["usd_per_million"], own["is_bound"], own["source"], own["grade"]) == (
        "1.925",  # 1.10 x 1.75
        True,
        "derived",
        "inferred",
    )
    line = next(
        line
        for line in run("show", HAIKU, "--tier", "priority").stdout.splitlines()
        if "input_tokens" in line
    )
    assert line.split()[-1] == "bound"


def test_show_tells_the_price_of_a_day_and_its_bands() -> None:
    """
    Sonnet 3.5 doubled on 2025-12-01.
    """
    sonnet = "us.anthropic.claude-3-5-sonnet-20241022-v2:0"
    prices = {
        day: next(
            each
            for each in told("show", sonnet, "--region", "us-east-1", "--at", day)["meters"]
            if each["meter"] == "output_tokens"
        )
        for day in ("2025-11-30", "2025-12-01")
    }

    assert [each["usd_per_million"] for each in prices.values()] == ["15", "30"]
    assert prices["2025-11-30"]["effective_to"] == prices["2025-12-01"]["effective_from"] == "2025-12-01"
    long = told("show", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "--region", "us-east-1")
    assert {each["above_input_tokens"] for each in long["meters"]} == {0, 200_000}


def test_show_is_a_table_of_whole_lines_without_colours_in_a_pipe() -> None:
    """
    What reads a pipe wants neither escapes nor a line that is cut at 80.
    """
    done = run("show", HAIKU, "--region", "us-east-1")
    line = next(line for line in done.stdout.splitlines() if line.startswith("input_tokens"))

    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    assert line.split() == [
        "input_tokens",
        "1.1",
        "0.0000011",
        "aws-price-list",
        "aws-pricing-page",
        "genai-prices",
        "litellm",
        "AWS-row",
        "packaged",
    ]


def test_what_has_no_price_says_so_and_where_to_look() -> None:
    """
    1 is an answer, 2 a mistake.
    """
    done = run("show", "acme.nothing", "--region", "us-east-1")

    assert done.exit_code == 1
    assert "No price for 'acme.nothing' in us-east-1" in done.stderr
    assert "bedrock-guard prices list" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", HAIKU, "--tier", "turbo"), "'turbo' is no tier. Known: default, batch, flex"),
        (("show", HAIKU, "--latency", "low"), "'low' is no latency. Known: standard, optimized."),
        (("show", HAIKU, "--at", "2026-13-01"), "--at '2026-13-01' is no day. Write it as 2026-11-21."),
        (("show", HAIKU, "--at", "20261101"), "--at '20261101' is no day."),
        (("show", HAIKU, "--at", "2026-W01-1"), "--at '2026-W01-1' is no day."),
        (("show", HAIKU, "--at", "2026-11-01T10:00:00"), "is no day."),
        (("show", HAIKU, "--region", "mars"), "'mars' is no region. Write it as AWS does: us-east-1."),
        (("sync", "--from", "x.json", "--region", "narnia"), "'narnia' is no region."),
        (("list", "acme"), "'acme' is no maker. Known: ai21, amazon"),
        (("diff", "packaged", "overlay"), "Sync first: bedrock-guard prices sync"),
        (("diff", "packaged", "nowhere.json"), "There is no file nowhere.json"),
        (("sync", "--from", "nowhere.json"), "nowhere.json cannot be read as JSON"),
    ],
)
def test_bad_input_is_told_in_a_sentence_and_ends_with_2(arguments: tuple[str, ...], says: str) -> None:
    """
    The offending value, and the valid ones.
    """
    done = run(*arguments)

    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stdout == ""


# --- show, by the settings in force ---------------------------------------------------

ALIAS = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
PROVISIONED = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abc"


@pytest.fixture
def own_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = f"""
        [prices."anthropic.*"]
        "*" = "-50 %"
        output_tokens = "4 USD/1M"
        [prices."*provisioned-model/*"]
        "*" = "free"
        prompt_router_requests = "-50 %"
        [models]
        "{ALIAS}" = "{HAIKU}"
    """
    (tmp_path / "own.toml").write_text(settings)
    monkeypatch.setenv("BEDROCK_GUARD_CONFIG", str(tmp_path / "own.toml"))


@pytest.mark.usefixtures("own_prices")
@pytest.mark.parametrize("model_id", [HAIKU, ALIAS])
def test_show_tells_what_the_account_pays(model_id: str) -> None:
    """
    As a call is charged here: by [prices], and by [models] for an id that does not tell its model.
    """
    meters = {each["meter"]: each for each in told("show", model_id, "--region", "us-east-1")["meters"]}

    assert (meters["input_tokens"]["usd_per_million"], meters["input_tokens"]["layer"]) == ("0.55", "own")
    assert (meters["output_tokens"]["usd_per_million"], meters["output_tokens"]["layer"]) == ("4", "own")
    assert meters["guardrail_topic_policy_units"]["layer"] == "packaged"
    assert list(meters)[-1] == "web_grounding_requests"


@pytest.mark.usefixtures("own_prices")
def test_show_can_leave_the_accounts_prices_out() -> None:
    """
    To compare with an invoice before its discounts.
    """
    meters = {each["meter"]: each for each in told("show", ALIAS, "--list-price")["meters"]}

    assert (meters["input_tokens"]["usd_per_million"], meters["input_tokens"]["layer"]) == ("1.1", "packaged")


@pytest.mark.usefixtures("own_prices")
def test_show_knows_a_model_that_only_the_settings_price() -> None:
    """
    Committed throughput is in no list; what is billed beside it is.
    """
    meters = {each["meter"]: each for each in told("show", PROVISIONED)["meters"]}

    assert (meters["images"]["usd_per_unit"], meters["images"]["layer"]) == ("free", "own")
    router, guardrail = meters["prompt_router_requests"], meters["guardrail_topic_policy_units"]
    assert (router["usd_per_unit"], router["layer"]) == ("0.0005", "own")
    assert (guardrail["usd_per_unit"], guardrail["layer"]) == ("0.00015", "packaged")
    assert run("show", PROVISIONED, "--list-price").exit_code == 1
    assert run("show", PROVISIONED.replace("provisioned-model", "imported-model")).exit_code == 1


def test_show_with_settings_that_cannot_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A figure by half of the settings would be a wrong one.
    """
    monkeypatch.setenv("BEDROCK_GUARD_CONFIG", str(tmp_path / "none.toml"))

    assert run("show", HAIKU).exit_code == 2


def test_what_a_user_wrote_is_printed_as_it_is(tmp_path: Path) -> None:
    """
    Square brackets are markup to the printer, and a folder may be named with them.
    """
    (tmp_path / "[red]").mkdir()
    saved(tmp_path / "in.json", INPUT)
    path = tmp_path / "[red]" / "prices.json"

    done = run("sync", "--from", tmp_path / "in.json", "--overlay", path)

    assert str(path) in done.stdout.replace("\n", "")


# --- list, check, diff ---------------------------------------------------------------


def test_list_tells_the_models_of_a_maker() -> None:
    """
    To copy an id from.
    """
    models = told("list", "cohere")["models"]

    assert "cohere.rerank-v3-5:0" in models
    assert run("list", "cohere").stdout.split() == models
    assert len(run("list").stdout.split()) > 150


def test_check_finds_nothing_odd_about_the_packaged_list_while_it_is_fresh() -> None:
    """
    The list is checked before it is released.
    """
    with time_machine.travel("2026-12-01"):
        assert told("check")["findings"] == []
        assert run("check", "--strict").exit_code == 0
        assert "10 days old" in run("check").stdout


def test_check_tells_the_age_and_strict_makes_it_fail() -> None:
    """
    A pipeline wants a code, a person a sentence.
    """
    with time_machine.travel("2027-03-01"):
        found = told("check")
        done = run("check", "--strict")

    assert (found["age"], found["days"]) == ("very old", 100)
    assert done.exit_code == 1
    assert "age: The price list of 2026-11-21 is very old: 100 days." in done.stdout
    with time_machine.travel("2027-03-01"):
        assert run("check").exit_code == 0


@pytest.mark.parametrize(
    "homes", [["in-region", "us"], ["us"], ["in-region"], ["us-east-1", "us"], ["us-gov", "us"]]
)
@pytest.mark.parametrize("places", [["apac", "global"], ["global"], ["global@us-east-1"]])
def test_check_finds_a_global_price_above_a_regional_one_wherever_they_stand(
    places: list[str], homes: list[str]
) -> None:
    """
    A row may hold at several places, in any order, and a model have no price for single regions.
    """
    rows = [
        {"where": where, "usd": {"input_tokens": usd}, "source": "x"}
        for where, usd in ((places, "0.000006"), (homes, "0.000005"))
    ]
    files: dict[str, Any] = {
        "index": {
            "as_of": "2026-11-21",
            "makers": ["acme"],
            "any_model": {"usd": {}, "source": "x"},
            "dearest": {},
            "grades": {"x": "3p"},
        },
        "acme": {"models": {"acme.one": {"rows": rows}}},
    }
    found = check_prices(PriceList(lambda name: files[name]), date(2026, 11, 22))

    assert any("input_tokens is dearer globally" in each.text for each in found)


def test_check_tells_what_a_sync_brought_that_is_odd(tmp_path: Path, overlay: Path) -> None:
    """
    What was accepted once stays worth a look.
    """
    wrong = [
        marketplace("Claude Haiku 4.5", "OutputTokenCount", "0.5"),
        marketplace("Claude Haiku 4.5", "CacheReadInputTokenCount", "1.5"),
        marketplace("Claude Haiku 4.5", "CacheWriteInputTokenCount", "0.9"),
        marketplace("Claude Opus 4.6", "InputTokenCount_Global", "9"),
        record("USE1-xai.grok-9-input-tokens-flex", "0.001"),
    ]
    run("sync", "--accept", "--from", saved(tmp_path / "list.json", *wrong))
    with time_machine.travel("2026-12-01"):
        texts = "\n".join(each["text"] for each in told("check")["findings"])

    for says in (
        "output is cheaper than input",
        "cached input is dearer than input",
        "writing to the cache is cheaper",
        "dearer globally than in the region",
        "xai.grok-9: has no standard price",
    ):
        assert says in texts, says


def test_check_tells_what_the_list_lacks() -> None:
    """
    A model that answers, without the price of an answer, would be refused at its first call.
    """
    made = facts({"acme.one": fact("acme.one", {"input": "0.000001"}, max_output_tokens=9)})
    files, _ = generate(made)
    index = {**json.loads(files["index"]), "grades": {}}
    listed = PriceList(lambda name: index if name == "index" else json.loads(files[name]))

    assert [tuple(each) for each in check_prices(listed, date(2026, 11, 22))] == [
        ("gap", "acme.one in-region: has an input price and no output price"),
        ("gap", "acme.one in-region: source 'litellm' has no grade"),
    ]


def test_check_refuses_a_file_that_cannot_be_used(overlay: Path) -> None:
    """
    A guard would ignore it; who checks wants to know.
    """
    overlay.write_text("{")
    done = run("check")

    assert done.exit_code == 2
    assert "is not JSON" in done.stderr


def test_diff_tells_what_a_sync_changed_and_nothing_else(tmp_path: Path, overlay: Path) -> None:
    """
    It is looked at before it is believed.
    """
    run("sync", "--from", saved(tmp_path / "list.json", INPUT))

    assert [
        (each["place"], each["meter"], each["before"], each["after"])
        for each in told("diff", "packaged", "overlay")["differences"]
    ] == [
        ("us-east-1", "input_tokens", "0.0000011", "0.0000012"),
        ("us@us-east-1", "input_tokens", "0.0000011", "0.0000012"),
    ]
    assert told("diff", overlay, "overlay") == {"differences": []}
    assert "2 prices differ." in run("diff", "packaged", overlay).stdout


# --- sync ----------------------------------------------------------------------------


def test_sync_writes_and_tells_what_it_did(tmp_path: Path, overlay: Path) -> None:
    """
    And from then on the price counts.
    """
    strange = record("USE1-NovaNext-input-tokens", "1", model="Nova Next")
    done = run(
        "sync", "--from", bulk(tmp_path / "index.json.gz", INPUT), "--from", saved(tmp_path / "b", strange)
    )

    assert done.exit_code == 0, done.output
    assert "0 new, 1 changed, 0 unchanged; 0 refused, 1 unmatched, 0 skipped." in done.stdout
    assert "input_tokens, regional in us-east-1: 1.1 -> 1.2 USD a million" in done.stdout
    assert (
        "unmatched: USE1-NovaNext-input-tokens us-east-1: no model that is known by 'Nova Next'"
        in done.stdout
    )
    assert f"Written to {overlay}: prices of 2026-09-01." in done.stdout
    shown = told("show", HAIKU, "--region", "us-east-1")
    (own,) = [each for each in shown["meters"] if each["meter"] == "input_tokens"]
    assert (own["usd_per_million"], own["layer"], own["rate_code"], own["published"]) == (
        "1.2",
        "overlay",
        "HAIKU.TERM.0",
        "2026-09-01",
    )


def test_sync_holds_back_what_is_not_believed_and_says_how_to_go_on(tmp_path: Path, overlay: Path) -> None:
    """
    Nothing is written, and the exit code says so.
    """
    listed = saved(tmp_path / "list.json", marketplace("Claude Haiku 4.5", "InputTokenCount", "0.5"))
    done = run("sync", "--from", listed)

    assert done.exit_code == 1
    assert "falls by more than 20 %, from 0.0000011 to 0.0000005 USD" in done.stdout
    assert "sync again with --accept" in done.stdout
    assert not overlay.exists()
    assert run("sync", "--from", listed, "--accept", "--dry-run").exit_code == 0
    assert not overlay.exists()
    assert told("sync", "--from", listed, "--accept")["written"] is True


def test_sync_in_json_tells_everything(tmp_path: Path) -> None:
    """
    What a table cuts short.
    """
    many = [record(f"USE1-Strange{number}-input-tokens", "1") for number in range(30)]
    listed = saved(tmp_path / "list.json", INPUT, *many)

    result = told("sync", "--from", listed, "--dry-run")
    assert len(result["unmatched"]) == 30
    assert result["moves"][0]["before"] == "0.0000011"
    assert "unmatched: 10 more; --json has all." in run("sync", "--from", listed, "--dry-run").stdout


def test_sync_that_finds_nothing_says_so(tmp_path: Path) -> None:
    """
    A filter that fits no record must not look like success.
    """
    done = run("sync", "--from", saved(tmp_path / "list.json", INPUT), "--region", "eu-west-1")

    assert done.exit_code == 1
    assert "no price was read" in done.stdout


def test_sync_tells_when_the_file_cannot_be_written(tmp_path: Path) -> None:
    """
    A place where a folder should be, and is a file.
    """
    (tmp_path / "file").write_text("")
    done = run(
        "sync", "--from", saved(tmp_path / "list.json", INPUT), "--overlay", tmp_path / "file" / "p.json"
    )

    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


class Pricing:
    """
    AWS's Price List API, as far as it is asked.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def get_paginator(self, _: str) -> Pricing:
        return self

    def paginate(self, **request: Any) -> Any:
        if self.error is not None:
            raise self.error
        yield {"PriceList": [json.dumps(INPUT)] if request["ServiceCode"].endswith("Models") else []}


def test_sync_without_files_asks_aws(monkeypatch: pytest.MonkeyPatch, overlay: Path) -> None:
    """
    In one region, for the products of those that are named.
    """
    made: list[tuple[str, str]] = []

    def client(name: str, *, region_name: str) -> Pricing:
        made.append((name, region_name))
        return Pricing()

    monkeypatch.setattr(boto3, "client", client)
    done = run("sync", "--region", "us-east-1")

    assert done.exit_code == 0, done.output
    assert made == [("pricing", "us-east-1")]
    assert overlay.exists()


@pytest.mark.parametrize(
    "error",
    [NoCredentialsError(), ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetProducts")],
)
def test_sync_that_aws_refuses_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """
    A permission, or the files that need none.
    """
    monkeypatch.setattr(boto3, "client", lambda *_, **__: Pricing(error))
    done = run("sync", "--region", "us-east-1")

    assert done.exit_code == 1
    assert "pricing:GetProducts" in done.stderr
    assert "--from index.json" in done.stderr


def test_sync_without_a_region_asks_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    All regions would be an hour of pages.
    """
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    done = run("sync")

    assert done.exit_code == 2
    assert "--region us-east-1" in done.stderr


@pytest.mark.parametrize("command", ["show", "list", "check", "diff", "sync"])
def test_every_command_has_help_and_json(command: str) -> None:
    """
    The first thing that is tried.
    """
    done = run(command, "--help")

    assert done.exit_code == 0
    assert "--json" in done.stdout


def test_a_file_that_cannot_be_used_warns_and_the_packaged_prices_are_shown(overlay: Path) -> None:
    """
    On stderr, so that what reads stdout still can.
    """
    overlay.write_text("{")
    done = subprocess.run(
        [sys.executable, "-m", "bedrock_guard", "prices", "show", HAIKU, "--json", "--overlay", str(overlay)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert json.loads(done.stdout)["as_of"] == "2026-11-21"
    assert "ignored as a whole" in done.stderr
