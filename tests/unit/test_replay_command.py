"""
`bedrock-guard replay`: a bill from Bedrock's invocation logs, and what a policy would have refused.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import subprocess
import sys
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from invocation_logs import (
    ACCOUNT,
    HAIKU,
    NOVA,
    TITAN,
    USER,
    busy,
    claude,
    converse_reply,
    counted,
    events,
    lines,
    record,
    usage_of_claude,
    write_s3,
)
from journal import HOSTILE
from typer.testing import CliRunner, Result

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.calls.waiting import Queue
from bedrock_guard.cli import app
from bedrock_guard.replay import findings, replaying
from bedrock_guard.replay.sorting import SortedCalls


@pytest.fixture(autouse=True)
def _nothing_in_force(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    monkeypatch.setenv("BEDROCK_GUARD_CONFIG", str(path))


def run(*arguments: str, sent: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["replay", *arguments], input=sent)


def replayed(records: list[Any], *arguments: str) -> dict[str, Any]:
    done = run("-", "--json", *arguments, sent=lines(records))
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def policy(folder: Path, text: str) -> tuple[str, str]:
    path = folder / "policy.toml"
    path.write_text(text)
    return "--config", str(path)


# A bill


def test_a_bill_from_a_folder_as_s3_has_it(tmp_path: Path) -> None:
    """
    By model, day and who called, from packed files in folders of hours; each call once.
    """
    made = [record(number, after_s=number * 43_200) for number in range(4)]
    asked = {"messages": [{"role": "user", "content": "x" * 3000}]}
    made.append(
        claude(asked, {"usage": usage_of_claude(1000, 10)}, number=9, after_s=5, identity={"arn": USER})
    )
    folder = write_s3(tmp_path / "logs", made, each=2)

    by_model = run(str(folder), str(folder), "--csv")
    by_day = json.loads(run(str(folder), "--by", "day", "--by", "principal", "--json").stdout)
    shown = run(str(folder)).stdout

    rows = list(csv.DictReader(io.StringIO(by_model.stdout)))
    # 1,000 at 1.1 USD a million and 10 at 5.5.
    assert [(row["model"], row["calls"], row["cost"]) for row in rows] == [
        (HAIKU.removeprefix("us."), "1", "0.001155"),
        (NOVA, "4", "0.000336"),
    ]
    role = f"arn:aws:iam::{ACCOUNT}:role/agent"
    assert by_day["by"] == ["day", "tag:principal"]
    assert [(each["day"], each["tag:principal"], each["calls"]) for each in by_day["groups"]] == [
        ("2026-11-20", USER, 1),
        ("2026-11-20", role, 2),
        ("2026-11-21", role, 2),
    ]
    assert (by_day["files"], by_day["total"]["cost"], by_day["total"]["reported"]) == (
        3,
        "0.001491",
        "0.001491",
    )
    assert (by_day["first_at"], by_day["last_at"]) == (
        "2026-11-20T08:00:00+00:00",
        "2026-11-21T20:00:00+00:00",
    )
    assert shown.endswith("5 calls in 3 files, from 2026-11-20 08:00:00 to 2026-11-21 20:00:00: $0.0015.\n")
    assert "refused" not in shown


@pytest.mark.parametrize(
    ("made", "usage", "cost"),
    [
        (record(output={"outputBodyJson": events(7, 5)}, operation="ConverseStream"), (7, 5), "0.00000162"),
        # A stream that was logged as one reply, as Bedrock does for Converse.
        (record(operation="ConverseStream"), (200, 300), "0.000084"),
        (record(**counted(7, 5)), (7, 5), "0.00000162"),
        (record(operation="InvokeModel", **counted(7, 5)), (7, 5), "0.00000162"),
        (record(input=counted(7, 5)["input"]), (200, 300), "0.000084"),
        (record(output=counted(200, 5)["output"]), (200, 5), "0.0000132"),
        (record(output={"outputBodyJson": json.dumps(converse_reply(7, 5))}), (7, 5), "0.00000162"),
        (record(output={"outputBodyJson": "cut", "outputTokenCount": 5}), (200, 5), "0.0000132"),
        (claude({}, {"usage": usage_of_claude(100, 10)}), (100, 10), "0.000165"),
        (
            claude(
                {},
                [
                    {"type": "message_start", "message": {"usage": usage_of_claude(100, 1)}},
                    {
                        "type": "message_stop",
                        "amazon-bedrock-invocationMetrics": {"inputTokenCount": 100, "outputTokenCount": 10},
                    },
                ],
            ),
            (100, 10),
            "0.000165",
        ),
        (
            record(
                operation="InvokeModel",
                modelId=TITAN,
                input={"inputBodyJson": {"inputText": "hi"}, "inputTokenCount": 3},
                output={"outputBodyJson": {"embedding": [0.1], "inputTextTokenCount": 3}},
            ),
            (3, 0),
            "0.00000006",
        ),
    ],
)
def test_usage_is_read_from_the_reply_and_else_from_the_counts(
    made: dict[str, Any], usage: tuple[int, int], cost: str
) -> None:
    """
    Whole or in events, as text or as JSON, in the record or in S3.
    """
    total = replayed([made])["total"]

    assert (total["input_tokens"], total["output_tokens"]) == usage
    assert (total["cost"], total["estimated"]) == (cost, "0.00")


def test_caches_are_priced_apart() -> None:
    """
    By how long what is written lives, where the request or the reply tells; else as it does by default.
    """
    hour = {
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "x" * 9000, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
                ],
            }
        ]
    }
    usage = usage_of_claude(100, 10, read=1000, kept=1000)
    found = replayed(
        [
            claude(hour, {"usage": usage}, number=1),
            claude({}, {"usage": usage}, number=2),
            record(
                3,
                operation="InvokeModel",
                modelId=HAIKU,
                **counted(100, 10, cacheReadInputTokenCount=1000, cacheWriteInputTokenCount=1000),
            ),
        ]
    )

    assert found["total"]["usage"] == {
        "input_tokens": 300,
        "output_tokens": 30,
        "cache_read_input_tokens": 3000,
        "cache_write_1h_input_tokens": 1000,
        "cache_write_5m_input_tokens": 2000,
    }
    # 1.1 x (300 x 1 + 30 x 5 + 3000 x 0.1 + 1000 x 2 + 2000 x 1.25) millionths.
    assert found["total"]["cost"] == "0.005775"
    assert found["without_request"] == 1


def test_the_tier_and_the_latency_that_a_record_names() -> None:
    """
    InvokeModel has them in headers, which are not logged.
    """
    model = "openai.gpt-oss-120b-1:0"
    made = [
        record(1, modelId=model, serviceTier={"type": "flex"}),
        record(2, modelId=model, serviceTier="priority", performanceConfig={"latency": "optimized"}),
    ]

    found = replayed(made, "--by", "tier", "--by", "latency")

    # 200 in and 300 out: at 0.2625 and 1.05 USD a million, and at 0.075 and 0.3.
    assert [(each["tier"], each["latency"], each["cost"]) for each in found["groups"]] == [
        ("priority", "optimized", "0.0003675"),
        ("flex", "standard", "0.000105"),
    ]


def test_what_failed_is_charged_as_a_guard_does() -> None:
    """
    Turned away: free. Broken off and counted: by its counts. Broken off and not: at the estimate.
    """
    found = replayed(
        [
            record(1, errorCode="ThrottlingException", output=None),
            record(2, errorCode="ModelStreamErrorException", output={"outputTokenCount": 5}),
            record(3, errorCode="InternalServerException", output=None, input={"inputTokenCount": 0}),
            record(4, errorCode="SomethingNew", output=None),
        ],
        "--by",
        "outcome",
    )

    groups = {each["outcome"]: each for each in found["groups"]}
    assert (groups["rejected"]["calls"], groups["rejected"]["cost"]) == (1, "0.00")
    assert (groups["answered"]["cost"], groups["answered"]["estimated"]) == ("0.0000132", "0.00")
    assert groups["lost"]["calls"] == 2
    assert groups["lost"]["cost"] == groups["lost"]["estimated"] != "0.00"


def test_images_are_never_free_for_want_of_a_body() -> None:
    """
    No count tells how many there were: the most that one request can be is charged, and told apart.
    """
    made = record(operation="InvokeModel", modelId="amazon.nova-canvas-v1:0", **counted(0, 0))

    total = replayed([made])["total"]

    assert Decimal(total["estimated"]) == Decimal(total["cost"]) > 0


def test_opaque_ids_and_own_prices_are_those_of_the_settings(tmp_path: Path) -> None:
    """
    Also where nothing is refused.
    """
    arn = f"arn:aws:bedrock:us-east-1:{ACCOUNT}:application-inference-profile/abc"
    path = tmp_path / "empty.toml"
    path.write_text(f'[models]\n"{arn}" = "{NOVA}"\n[prices."{NOVA}"]\noutput_tokens = "1 USD/1M"\n')

    total = replayed([record(modelId=arn)])["total"]

    assert total["cost"] == "0.000312"


# What cannot be read

PACKED = gzip.compress(lines(record(number) for number in range(800)), mtime=0)

HOSTILE_RECORDS: list[Any] = [
    "x",
    3,
    [[[]], 7],
    {},
    record(timestamp="yesterday"),
    record(timestamp=5),
    record(timestamp="9999-12-31T23:59:59Z"),
    record(timestamp="0001-01-01T00:00:00Z"),
    record(region=None),
    record(region=""),
    record(modelId=7),
    record(modelId="m" * 10_000),
    record(operation="StartAsyncInvoke"),
    record(schemaType="Another"),
    record(modelId="amazon.unheard-of-v1:0"),
    {"message": "{"},
]
ODD_RECORDS: list[Any] = [
    record(1, identity={"arn": HOSTILE}, requestMetadata={HOSTILE: HOSTILE, "team": 7}, new={"a": 1}),
    record(2, identity=7, requestMetadata="text", input=7, output=[]),
    record(3, timestamp="2026-11-20T09:00:00", requestId=None),
    record(4, timestamp="2026-11-20T10:00:00+02:00", requestId=["x"]),
    record(5, **counted(10**12, 10**12)),
    record(6, **counted(-5, -5)),
    record(7, output={"outputBodyJson": {"usage": {"inputTokens": -1, "outputTokens": 10**40}}}),
    record(
        8, input={"inputBodyJson": {"messages": [{"content": [{"text": "\ud800"}]}]}, "inputTokenCount": 5}
    ),
    record(9, input={"inputBodyJson": [1, 2]}),
    record(10, operation="InvokeModel", input={"inputBodyJson": [1]}, output={"outputBodyJson": [1, None]}),
    record(11, errorCode={"a": 1}, serviceTier=[], performanceConfig=[]),
]


def test_every_record_that_is_left_out_is_named() -> None:
    """
    With its line, in the output for people and in JSON, and exit code 1 under --strict.
    """
    sent = lines([*HOSTILE_RECORDS, record(1)])

    done = run("-", sent=sent)
    strict = run("-", "--strict", "--json", sent=sent)

    assert (done.exit_code, strict.exit_code) == (0, 1)
    told = json.loads(strict.stdout)
    problems = {int(each["place"].rpartition(":")[2]): each["why"] for each in told["problems"]}
    assert sorted(problems) == list(range(1, len(HOSTILE_RECORDS) + 1))
    assert told["problem_count"] == len(told["problems"]) == len(HOSTILE_RECORDS)
    assert problems[5] == "timestamp 'yesterday' is no moment since 2023"
    assert problems[9] == "it has no region"
    assert "is 10,000 characters long" in problems[12]
    assert problems[13].startswith("operation 'StartAsyncInvoke' is none that is replayed: Converse,")
    assert problems[15].startswith("No price for 'amazon.unheard-of-v1:0'")
    assert (told["total"]["calls"], told["total"]["cost"]) == (1, "0.000084")
    assert "16 records in no sum, as it could not be read" in done.stderr
    assert "standard input:5: timestamp 'yesterday' is no moment" in done.stderr
    assert "and 6 more" in done.stderr


def test_odd_records_are_calls_all_the_same() -> None:
    """
    Nothing that a log says ends the command, or costs less than nothing.
    """
    found = replayed(ODD_RECORDS, "--by", "principal")

    assert (found["problem_count"], found["total"]["calls"]) == (0, len(ODD_RECORDS))
    assert all(Decimal(each["cost"]) >= 0 for each in found["groups"])
    assert found["odd"] >= 2
    assert Decimal(found["total"]["cost"]) < 30


def test_what_is_nested_too_deep_is_named() -> None:
    """
    However deep: a request's size is found by going down into it.
    """
    made = []
    for depth in (*range(100, 1000, 20), 50_000):
        body = '{"messages": ' + "[" * depth + "]" * depth + "}"
        whole = json.dumps(record(depth, operation="InvokeModel", input={"inputBodyJson": "BODY"}))
        made.append(whole.replace('"BODY"', body))
        made.append("[" * depth + json.dumps(record(depth + 7)) + "]" * depth)

    done = run("-", "--json", sent="\n".join(made).encode())

    found = json.loads(done.stdout)
    assert found["problem_count"] > 0
    assert found["problem_count"] + found["total"]["calls"] == len(made)


def test_what_is_shown_of_others_is_no_markup() -> None:
    """
    Ten thousand characters of a principal, with what a terminal or a spreadsheet would act on.
    """
    shown = run("-", "--by", "principal", "--budget", "0 USD", sent=lines(ODD_RECORDS))
    table = run("-", "--by", "principal", "--csv", sent=lines(ODD_RECORDS))
    each = run("-", "--each", "--budget", "0 USD", sent=lines(ODD_RECORDS))

    for done in (shown, table, each):
        assert done.exit_code == 0
        assert not re.search("[\x00\x1b\u202e]", done.stdout)
    rows = [next(iter(row)) for row in csv.reader(io.StringIO(table.stdout))]
    assert any(row.startswith("'=cmd()[bold]x") and len(row) < 400 for row in rows)


def test_a_record_that_came_twice_counts_once(tmp_path: Path) -> None:
    """
    Logs that go to S3 and to CloudWatch Logs have every call twice.
    """
    made = [record(number, after_s=number) for number in range(3)]
    folder = write_s3(tmp_path / "s3", made)
    exported = {
        "events": [{"logStreamName": "s", "timestamp": 1, "message": json.dumps(each)} for each in made]
    }
    path = tmp_path / "events.json"
    path.write_text(json.dumps(exported, indent=4))

    found = json.loads(run(str(folder), str(path), "--json").stdout)
    shown = run(str(folder), str(path)).stdout

    assert (found["total"]["calls"], found["twice"], found["problem_count"]) == (3, 3, 0)
    assert "3 records came twice; each counts once." in shown


@pytest.mark.parametrize(
    "sent",
    [
        json.dumps({"messageType": "DATA_MESSAGE", "logEvents": [{"message": json.dumps(record())}]}),
        json.dumps([{"@timestamp": "2026-11-20 08:00:00", "@message": record()}]),
        f"2026-11-20T08:00:00.000Z {json.dumps(record())}",
        json.dumps(record(), indent=2),
    ],
)
def test_what_cloudwatch_logs_wraps_records_in(sent: str) -> None:
    """
    Subscriptions, exports of queries and to S3, or a record alone.
    """
    done = run("-", "--json", sent=sent.encode())

    assert json.loads(done.stdout)["total"]["cost"] == "0.000084"


def test_a_damaged_file_is_named_and_the_rest_of_it_counts(tmp_path: Path) -> None:
    """
    An upload that broke off costs its end alone.
    """
    packed = gzip.compress(lines(record(number, **counted(number, 1)) for number in range(800)), mtime=0)
    (tmp_path / "a.json.gz").write_bytes(packed[:-50])
    (tmp_path / "b.json").write_bytes(lines([record(5000)]) + b'{"schemaType": "Mod')

    found = json.loads(run(str(tmp_path), "--json").stdout)

    assert 400 < found["total"]["calls"] <= 800
    damage, cut = found["problems"]
    assert re.search(r"a\.json\.gz:\d+$", damage["place"])
    assert "cannot be unpacked any further" in damage["why"]
    assert (cut["place"], cut["why"]) == (
        str(tmp_path / "b.json") + ":2",
        "no JSON: Unterminated string starting at",
    )


@pytest.mark.parametrize("packed", [PACKED + b"more", PACKED[:-50]])
def test_all_that_can_be_unpacked_counts(packed: bytes) -> None:
    """
    To the last record before the damage, which is on the line after it.
    """
    calls = zlib.decompressobj(wbits=31).decompress(packed).count(b"\n")
    found = json.loads(run("-", "--json", sent=packed).stdout)

    assert (found["total"]["calls"], found["problem_count"]) == (calls, 1)
    assert found["problems"][0]["place"] == f"standard input:{calls + 1}"


class _Small(SortedCalls):
    def __init__(self) -> None:
        super().__init__()
        self._db.execute("PRAGMA max_page_count = 8")


@pytest.mark.parametrize("count", [100, 30])
def test_a_full_disk_is_told(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where a call does not fit, or their order: with what would help, and no bill of a part.
    """
    monkeypatch.setattr(replaying, "SortedCalls", _Small)

    done = run("-", sent=lines(record(number) for number in range(count)))

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Calls cannot be sorted in a temporary file: database or disk is full.")
    assert "SQLITE_TMPDIR" in done.stderr


def test_no_call_at_all_is_no_bill() -> None:
    """
    A wrong folder must not look like a quiet month.
    """
    done = run("-", sent=b"\n")

    assert (done.exit_code, done.stdout) == (1, "No call was found in 1 file.\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("none",), "There is no file 'none'."),
        (("-", "--by", "colour"), "'colour' is nothing to group by"),
        (("-", "--budget", "5 EUR"), "'EUR' is no unit"),
        (("-", "--each"), "--each tells what a policy refuses"),
        (("-", "--json", "--csv"), "one of them"),
    ],
)
def test_what_is_not_understood_is_told(arguments: tuple[str, ...], told: str) -> None:
    """
    Before anything is read.
    """
    done = run(*arguments, sent=b"")

    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr


def test_a_policy_that_refuses_nothing_is_a_mistake(tmp_path: Path) -> None:
    """
    A file without budgets would let everything through, and look like a good one.
    """
    done = run("-", *policy(tmp_path, 'time_zone = "UTC"'), sent=lines([record()]))

    assert done.exit_code == 2
    assert "names no budget and no breaker" in done.stderr


# A policy


def test_what_a_policy_refuses_when_and_for_whom(tmp_path: Path) -> None:
    """
    Windows begin anew on the logs' clock, each value of `per` has its own balance, and files need no order.
    """
    rows = policy(
        tmp_path,
        '[budgets.user]\nlimit = "3 requests/hour"\nper = "principal"\n[budgets.all]\nlimit = "1 USD/day"\n',
    )
    made = [
        record(number, after_s=600 * number, identity={"arn": USER if number % 2 else f"{USER}2"})
        for number in range(24)
    ]
    # Four hours, each of three calls of either: nobody is refused until there are two more of Ann's.
    made += [
        record(100, after_s=3_500, identity={"arn": USER}),
        record(101, after_s=3_599, identity={"arn": USER}),
    ]

    found = replayed(made, *rows)
    backwards = replayed(made[::-1], *rows)
    shown = run("-", *rows, sent=lines(made)).stdout
    listed = run("-", *rows, "--each", sent=lines(made))

    assert found == backwards
    assert found["refusals"] == [
        {
            "refused_by": "user",
            "per": {"principal": USER},
            "calls": 2,
            "saved": "0.000168",
            "first_at": "2026-11-20T08:58:20+00:00",
            "last_at": "2026-11-20T08:59:59+00:00",
        }
    ]
    assert (found["total"]["refused"], found["total"]["saved"], found["total"]["cost"]) == (
        2,
        "0.000168",
        "0.002184",
    )
    assert re.search(r"user +principal=\S+ +2 +2026-11-20 08:58:20 +2026-11-20 08:59:59 +\$0\.0002\n", shown)
    assert "26 calls in 1 file" in shown
    assert "2 of them (7.6 %) would have been refused, and $0.0002 saved." in shown
    first, _ = csv.DictReader(io.StringIO(listed.stdout))
    assert (first["at"], first["refused_by"], first["cost"]) == (
        "2026-11-20T08:58:20+00:00",
        "user",
        "0.000084",
    )
    assert (first["request_id"], first["place"]) == (
        "00000000-0000-4000-8000-000000000100",
        "standard input:25",
    )
    assert "26 calls in 1 file" in listed.stderr


def test_a_replay_does_what_a_guard_would_have_done() -> None:
    """
    The same requests through a guard with a clock: what was refused, and what the rest came to, are the same.
    """
    limit = "0.0004 USD/hour"
    made = [record(number, after_s=97 * number) for number in range(60)]
    now, refused, spent = [0.0], [], Decimal(0)
    with Guard(budget=limit, ledger="memory://", clock=lambda: now[0], sinks=[], clamp="never") as guard:
        for each in made:
            now[0] = 1_795_161_600.0 + 97 * len(refused)
            params = {**each["input"]["inputBodyJson"], "modelId": NOVA}
            try:
                with guard.hold("Converse", params, region="us-east-1") as hold:
                    entry = hold.settle(each["output"]["outputBodyJson"])
                spent += entry.cost or 0
                refused.append(False)
            except BudgetExceeded:
                refused.append(True)

    found = replayed(made, "--budget", limit)
    each = run("-", "--budget", limit, "--each", "--json", sent=lines(made)).stdout

    assert 0 < found["total"]["refused"] == sum(refused) < 60
    assert Decimal(found["total"]["cost"]) - Decimal(found["total"]["saved"]) == spent
    numbers = {int(json.loads(line)["request_id"][-12:]) for line in each.splitlines()}
    assert numbers == {number for number, is_refused in enumerate(refused) if is_refused}


def test_tags_of_a_request_are_the_ones_that_budgets_match(tmp_path: Path) -> None:
    """
    `requestMetadata`, as a guard with `tags_to_aws` sends it.
    """
    rows = policy(
        tmp_path,
        'untagged = "refuse"\n[budgets.ads]\nlimit = "1 requests"\nmatch = { team = "ads" }\n'
        '[budgets.each]\nlimit = "9 requests"\nper = "team"\n',
    )
    made = [
        record(number, requestMetadata={"team": team} if team else None)
        for number, team in enumerate(["ads", "seo", "ads", "seo", ""])
    ]

    found = replayed(made, *rows, "--by", "tag:team")

    assert {each["tag:team"]: each["refused"] for each in found["groups"]} == {"ads": 1, "seo": 0, "": 1}
    assert {each["refused_by"] for each in found["refusals"]} == {"ads", "untagged"}


def test_a_record_goes_before_the_tags_of_the_settings(tmp_path: Path) -> None:
    """
    They are of one program; a record that says nothing of a tag has theirs.
    """
    rows = policy(tmp_path, 'tags = { team = "mine" }\nbudget = "5 USD/day"\n')
    made = [record(1, requestMetadata={"team": "ads"}), record(2, requestMetadata=None)]

    found = replayed(made, *rows, "--by", "tag:team")

    assert sorted(each["tag:team"] for each in found["groups"]) == ["ads", "mine"]


def test_what_only_warns_lets_calls_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Soft limits and shadows are counted apart; budgets that wait, and fall back, refuse here at once.
    """
    rows = policy(
        tmp_path,
        '[budgets.soft]\nlimit = "1 requests"\non_exceed = "warn"\n'
        '[budgets.tried]\nlimit = "2 requests"\nmode = "shadow"\n'
        '[budgets.waits]\nlimit = "2 requests/second"\nburst = 3\nwait_s = 30\n',
    )
    made = [record(number) for number in range(4)]
    monkeypatch.setattr(Queue, "join", lambda *_, **__: pytest.fail("A call is kept waiting."))

    found = replayed(made, *rows)
    shown = run("-", *rows, sent=lines(made)).stdout

    assert found["warned"] == {"soft": 2, "tried": 1}
    assert [(each["refused_by"], each["calls"]) for each in found["refusals"]] == [("waits", 1)]
    assert "soft had no room for 2 calls, and lets them go on" in shown


def test_a_shadow_refuses_nothing(tmp_path: Path) -> None:
    """
    As the file has it; models without a price are let through, and told.
    """
    rows = policy(tmp_path, 'mode = "shadow"\nbudget = "1 requests/day"')

    found = replayed([record(1), record(2), record(3, modelId="amazon.unheard-of-v1:0")], *rows)

    assert (found["total"]["refused"], found["warned"]) == (0, {"default": 2})
    assert found["total"]["unpriced_calls"] == 1


def test_breakers_trip_on_the_clock_of_the_logs(tmp_path: Path) -> None:
    """
    A loop of one request is stopped for an hour; others too, as the breaker matches all.
    """
    rows = policy(
        tmp_path,
        '[breakers.loop]\ncondition = "same_request <= 3/hour"\nresume_after_s = 3600\n',
    )
    made = [record(number, after_s=10 * number) for number in range(10)]
    made += [record(20, after_s=5000), record(21, after_s=3000, **counted(200, 300))]

    found = replayed(made, *rows)

    assert [(each["refused_by"], each["calls"]) for each in found["refusals"]] == [("breaker:loop", 8)]
    assert found["refusals"][0]["last_at"] == "2026-11-20T08:50:00+00:00"


@pytest.mark.parametrize(
    "lenient",
    [
        '[breakers.loop]\non_trip = "warn"',
        '[breakers.loop]\nmode = "shadow"',
        'mode = "shadow"\n[breakers.loop]',
    ],
)
def test_a_breaker_that_lets_calls_go_on_is_told(lenient: str, tmp_path: Path) -> None:
    """
    How often it tripped: it begins to count anew each time.
    """
    rows = policy(
        tmp_path,
        f'{lenient}\ncondition = "same_request <= 3/hour"\n'
        '[breakers.stops]\ncondition = "same_request <= 9/hour"\nmatch = { model = "*claude*" }\n'
        '[breakers.cache]\ncondition = "cache_hit >= 0.5 after 2K total_input_tokens"\non_trip = "warn"\n',
    )
    made = [record(number, after_s=number) for number in range(10)]
    asked = {"messages": [{"role": "user", "content": "x" * 9000}]}
    made += [claude(asked, {"usage": usage_of_claude(2000, 1)}, number=20, after_s=20)]

    found = replayed(made, *rows)
    shown = run("-", *rows, sent=lines(made)).stdout

    assert (found["total"]["refused"], found["tripped"]) == (0, {"breaker:loop": 2, "breaker:cache": 1})
    assert "breaker:loop tripped 2 times, and lets calls go on" in shown


def test_another_operation_or_region_is_another_request(tmp_path: Path) -> None:
    """
    As in a guard, which knows a request by its URL and its body.
    """
    rows = policy(tmp_path, '[breakers.loop]\ncondition = "same_request <= 2/hour"\n')
    asked = [("Converse", "us-east-1"), ("ConverseStream", "us-east-1"), ("Converse", "us-west-2")]
    made = [
        record(number, after_s=number, operation=operation, region=region)
        for number, (operation, region) in enumerate(asked * 2)
    ]

    found = replayed(made, *rows)
    more = replayed([*made, record(9, after_s=9)], *rows)

    assert (found["total"]["refused"], more["total"]["refused"]) == (0, 1)


def test_groups_beyond_the_most_are_told_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of a log with more callers than memory.
    """
    monkeypatch.setattr(findings, "MOST_GROUPS", 2)
    made = list(busy(60, users=20))
    rows = ("--budget", "0 USD/day", "--by", "principal")

    found = replayed(made, *rows)
    shown = run("-", *rows, "--rows", "1", sent=lines(made)).stdout
    table = run("-", *rows, "--csv", sent=lines(made)).stdout

    assert len(found["groups"]) == 2
    assert found["others"]["calls"] == 60 - sum(each["calls"] for each in found["groups"])
    assert "… 1 more" in shown
    assert re.search(r"\nothers +\d+", shown)
    assert "\nothers," in table


def test_balances_beyond_the_most_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Of each budget; and a table shows as many as are asked for.
    """
    monkeypatch.setattr(findings, "MOST_GROUPS", 2)
    rows = policy(tmp_path, '[budgets.user]\nlimit = "0 USD"\nper = "principal"\n')
    made = list(busy(60, users=20))

    found = replayed(made, *rows)
    shown = run("-", *rows, "--rows", "1", sent=lines(made)).stdout

    assert sum(each["calls"] for each in found["refusals"]) == found["total"]["refused"]
    assert {"": "others"} in [each["per"] for each in found["refusals"]]
    assert len(found["refusals"]) == 3
    assert "… 2 more" in shown


def test_a_bar_is_for_who_looks_on(tmp_path: Path) -> None:
    """
    On standard error, where that is a terminal; standard output stays as it is.
    """
    folder = write_s3(tmp_path / "logs", busy(50))
    done = subprocess.run(
        [sys.executable, "-m", "bedrock_guard", "replay", str(folder), "--json"],
        capture_output=True,
        check=True,
        env=os.environ | {"FORCE_COLOR": "1"},
    )

    assert b"replaying" in done.stderr
    assert json.loads(done.stdout)["total"]["calls"] == 50


@pytest.mark.slow
def test_sixty_thousand_calls_fit_into_little_memory(tmp_path: Path) -> None:
    """
    However many there are, they are sorted on the disk.
    """
    few = write_s3(tmp_path / "few", busy(3_000, every_s=0.3), 3_000)
    many = write_s3(tmp_path / "many", busy(60_000, every_s=0.3), 10_000)
    code = (
        "import resource, sys; from typer.testing import CliRunner; from bedrock_guard.cli import app\n"
        "done = CliRunner().invoke(app, ['replay', sys.argv[1], '--budget', '1 USD/hour', '--json'])\n"
        "assert not done.exit_code, done.stderr\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, done.stdout)"
    )
    peaks, found = [], {}
    for folder in (few, many):
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            capture_output=True,
            check=True,
            text=True,
        )
        peak, _, told = done.stdout.partition(" ")
        peaks.append(int(peak))
        found = json.loads(told)

    assert (found["total"]["calls"], found["problem_count"]) == (60_000, 0)
    assert 0 < found["total"]["refused"] < 60_000
    # In KB: 16 MB of what is sorted are kept, and all of it would be 60 MB.
    assert peaks[1] - peaks[0] < 35_000
