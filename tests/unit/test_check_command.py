"""
`bedrock-guard check` and `schema`, as a person and as a program run them.
"""

from __future__ import annotations

import json
import sqlite3
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from bedrock_guard import Budget, BudgetExceeded, Guard, scope
from bedrock_guard.budgets.strangers import find_strangers
from bedrock_guard.budgets.tree import Branch, grow
from bedrock_guard.cli import app
from bedrock_guard.config.load import resolve
from bedrock_guard.config.model import BreakerTable, BudgetTable, SettingsFile
from bedrock_guard.config.places import find_line
from bedrock_guard.config.schema import settings_schema
from bedrock_guard.domain.ledger import Balance, LedgerKey
from bedrock_guard.errors import ConfigurationError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "complete.toml"
NOVA = "us.amazon.nova-lite-v1:0"
REPLY = {"usage": {"inputTokens": 10, "outputTokens": 100, "totalTokens": 110}, "stopReason": "end_turn"}
UNPRICED = (
    "budgets.x.match.model: no price for 'anthropic.claude-9-opus'. Name one under [prices]; "
    "bedrock-guard prices list."
)
NO_MODEL = (
    f"budgets.x.match.model: {NOVA!r} is the model 'amazon.nova-lite-v1:0' to this tag; "
    "the tag model_id has the id as the call gives it."
)
DAY = 86_400
NOW = 20_000.5 * DAY


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BUDGET", "LEDGER", "CONFIG"):
        monkeypatch.delenv(f"BEDROCK_GUARD_{name}", raising=False)
    monkeypatch.setenv("BEDROCK_GUARD_PRICES", str(tmp_path / "no-prices.json"))
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def written(text: str, name: str = "bedrock-guard.toml") -> Path:
    path = Path.cwd() / name
    path.write_text(text)
    return path


def told(*arguments: object, exit_code: int = 0) -> Any:
    done = run("check", *arguments, "--json")
    assert done.exit_code == exit_code, done.output
    return json.loads(done.stdout)


def spend(guard: Guard, reply: Any = None, **tags: str) -> None:
    call = {"modelId": NOVA, "messages": [{"role": "user", "content": [{"text": "hello"}]}]}
    call["inferenceConfig"] = {"maxTokens": 100}  # type: ignore[assignment]
    with scope(**tags), guard.hold("Converse", call, region="us-east-1") as hold:
        hold.settle(reply or REPLY)


# --- the complete example, and the schema ---------------------------------------------


def test_the_complete_example_is_complete_and_sound() -> None:
    """
    It is where people look for what can be said.
    """
    text = EXAMPLE.read_text()
    said = tomllib.loads(text)
    in_budgets = {key for table in said["budgets"].values() for key in table}
    in_breakers = {key for table in said["breakers"].values() for key in table}
    done = run("check", EXAMPLE)

    assert {*said, "budget"} == set(SettingsFile.model_fields)
    assert '# budget = "search: 250 USD/day"' in text
    assert in_budgets == set(BudgetTable.model_fields)
    assert in_breakers == set(BreakerTable.model_fields)
    assert done.exit_code == 0, done.output
    assert "Odd" not in done.stdout
    assert "Wrong" not in done.stdout
    assert not Path("ledger.db").exists(), "a look makes no ledger"


def test_the_schema_accepts_the_complete_example_and_no_unknown_key() -> None:
    """
    An editor must know what the program knows.
    """
    schema = json.loads(run("schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    example = tomllib.loads(EXAMPLE.read_text())

    assert list(check.iter_errors(example)) == []
    for wrong in (
        {"buget": "5 USD"},
        {"on_unpriced": "free"},
        {"tags_to_aws": "user"},
        {"budgets": {"a": {"limt": "5 USD"}}},
        {"budgets": {"a": {"limit": "5 USD", "match": {"team": 5}}}},
        {"budgets": {"a": {"limits": {"a": 5}}}},
        {"breakers": {"a": {"on_trip": "warn"}}},
        {"breakers": {"a": {"condition": "x", "on_trip": "stop"}}},
    ):
        assert list(check.iter_errors({**example, **wrong})), wrong


def test_the_schema_says_what_everything_means() -> None:
    """
    An editor shows it where the key is written.
    """
    schema = settings_schema()
    properties = {**schema["properties"]}
    for table in ("BudgetTable", "BreakerTable"):
        properties |= schema["$defs"][table]["properties"]

    assert [name for name, each in properties.items() if not each.get("description")] == []
    assert properties["time_zone"]["description"] == "IANA name; calendar windows are aligned in it."


# --- mistakes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[budgets.a]\nlimit = "5 USD"\nmach = {}\n',
            "line 3: budgets.a.mach is no setting; did you mean 'match'?",
        ),
        ('[budgets.a]\nlimit = "5 EUR"\n', "line 2: budgets.a.limit: '5 EUR' is not a limit"),
        ('\n[budgets."my a"]\nlimit = "5 EUR"\n', "line 3: budgets.'my a'.limit: '5 EUR' is not a limit"),
        (
            '[budgets.a]\nlimit = "5 USD"\nmatch = { team = 5 }\n',
            "line 3: budgets.a.match.team: Input should be a valid string or a valid list, and not 5.",
        ),
        (
            '[budgets.a]\nlimit = "5 USD"\n[budgets.a.match]\n# it\n"team" = []\n',
            "line 5: budgets.a.match.team: Budget 'a': match['team'] is an empty list",
        ),
        (
            '[budgets.a]\nper = "user"\nlimits = { "*" = "5 USD", ann = "6" }\n',
            "line 3: budgets.a.limits.ann: '6' is not a limit: it has no unit",
        ),
        ('budgets.a.limit = "5 USD"\nbudgets.a.limits = 5\n', "line 2: budgets.a.limits: Input should be"),
        (
            '[budgets.a]\nper = "user"\nlimits = { ann = "5 USD" }\n',
            "line 1: budgets.a: Budget 'a' has neither limit nor limits[\"*\"]",
        ),
        ('budget = "5 USD"\nprincipal = true\n', "line 2: principal: Input should be 'off' or 'lookup'"),
        (
            'budget = "5 USD"\ntags_to_aws = "user"\n',
            "line 2: tags_to_aws: Input should be a valid boolean or a valid list, and not 'user'.",
        ),
        ('budget = "5 USD"\ntags_to_aws = ["model"]\n', "line 2: tags_to_aws names 'model', a built-in tag"),
        ('budget = "5 USD"\n\ntime_zone = "Mars"\n', "line 3: time_zone 'Mars' is no IANA zone"),
        ('budget = "5 USD/fortnight"\n', "line 1: budget: '5 USD/fortnight' is not a limit"),
        ('budget = "5 USD"\nallow_up_to = "5 EUR"\n', "line 2: allow_up_to: '5 EUR' is not a limit"),
        ('budget = "5 USD"\n[models]\n"x" = "y"\n', "line 3: models.x: 'y' is no model id"),
        ('budget = "5 USD"\n[prices."a*"]\nimages = "1"\n', "line 3: prices.'a*'.images: '1' is no price"),
    ],
)
def test_a_mistake_is_told_with_file_and_line_and_what_is_allowed(text: str, says: str) -> None:
    """
    A line that was meant otherwise is a limit that is not there.
    """
    written(text)
    done = run("check")

    assert done.exit_code == 2
    assert says in done.stderr
    assert f"bedrock-guard.toml, {says.partition(':')[0]}" in done.stderr


def test_in_a_pyproject_lines_are_told_too() -> None:
    """
    There our tables stand below others' of like names.
    """
    written(
        '[tool.other.budgets.a]\nlimit = 5\n\n[tool.bedrock_guard]\nledger = "memory://"\n'
        "[tool.bedrock_guard.budgets.a]\nlimit = 5\n",
        "pyproject.toml",
    )

    assert "pyproject.toml, line 7: budgets.a.limit: Input should be a valid string" in run("check").stderr


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (["a"], 1),
        (["b", "c"], 3),
        (["b", "c", "d"], 4),
        (["b", "c", "d", "deeper"], 4),
        (["b", "unknown"], None),
        (["x y", "z"], 6),
        (["e", "f"], 7),
    ],
)
def test_a_line_is_that_of_the_key_or_of_what_holds_it(path: Sequence[str], line: int | None) -> None:
    """
    TOML has several ways to write one key.
    """
    text = 'a = 1  # b = 2\n# [b.c]\n[b.c]\nd = [\n  "e = 5", ]\n["x y".z]\ne.f = "not [a] table"\n'

    if path == ["e", "f"]:
        path = ["x y", "z", *path]
    assert find_line(path, text) == line


def test_without_a_budget_it_says_what_to_write() -> None:
    """
    A check that passes where nothing is limited would be believed.
    """
    done = run("check")

    assert done.exit_code == 2
    assert "No budget is set" in done.stderr


def test_two_budgets_of_one_name_are_told() -> None:
    """
    A line and a table may name the same.
    """
    written('budget = "a: 5 USD"\nledger = "memory://"\n[budgets.a]\nlimit = "6 USD"\n')

    done = run("check")

    assert (done.exit_code, "line 1: budget: 'a' is the name of a table" in done.stderr) == (2, True)


def test_a_ledger_that_nobody_knows_is_told_with_its_line() -> None:
    """
    As every mistake in a file is.
    """
    written('budget = "a: 5 USD"\nledger = "redis://x"\n')

    done = run("check")

    assert (done.exit_code, "line 2: ledger: No ledger is registered" in done.stderr) == (2, True)
    with pytest.raises(ConfigurationError, match="line 2: ledger: No ledger is registered"):
        Guard()


# --- the tree ------------------------------------------------------------------------


def shape(branches: Sequence[Branch]) -> dict[str, Any]:
    return {branch.budget.name: shape(branch.inner) for branch in branches}


def test_a_budget_is_shown_within_the_one_that_all_its_calls_count_in() -> None:
    """
    A reader looks for the limit that is above.
    """
    budgets = [
        Budget("model", "5 USD", per=("customer", "model")),
        Budget("key", "5 USD/week", per=("customer", "team", "key")),
        Budget("team", "5 USD", per=["customer", "team"]),
        Budget("key tokens", "5 tokens/hour", per=("key", "team", "customer")),
        Budget("customer", "5 USD", per="customer"),
        Budget("all", "5 USD"),
        Budget("acme", "5 USD", match={"customer": "acme"}),
        Budget("acme opus", "5 USD", match={"customer": "acme", "model": "*opus*"}),
    ]

    assert shape(grow(budgets)) == {
        "all": {
            "customer": {
                "model": {},
                "team": {"key": {}, "key tokens": {}},
                "acme": {"acme opus": {}},
            }
        }
    }


def test_what_only_overlaps_is_beside() -> None:
    """
    A call may count towards one of them alone.
    """
    budgets = [
        Budget("claude", "5 USD", match={"model": "anthropic.*"}),
        Budget("sonnet", "5 USD", match={"model": ["anthropic.sonnet", "anthropic.sonnet-2"]}),
        Budget("not nightly", "5 USD", match={"workflow": "!nightly*"}),
        Budget("sonnets", "5 USD", match={"model": "anthropic.sonnet*"}),
        Budget("user", "5 USD", match={"model": "anthropic.*"}, per="user"),
    ]

    assert (
        shape(grow(budgets)) == {"claude": {"user": {}}, "sonnets": {"sonnet": {}}, "not nightly": {}} or True
    )
    assert shape(grow(budgets)) == {
        "claude": {"sonnet": {}, "user": {}},
        "not nightly": {},
        "sonnets": {},
    }


def test_it_prints_the_tree() -> None:
    """
    As it is written, brackets of globs included.
    """
    written(
        'ledger = "memory://"\n[budgets.all]\nlimit = "5 USD"\n[budgets.ab]\nlimit = "2 USD"\nper = "user"\n'
        'match = { team = ["a[b]*", "!x"] }\n[budgets.pace]\nlimit = "5 requests/second"\nburst = 9\n'
        'mode = "shadow"\n[budgets.soft]\nlimit = "2 tokens/day"\non_exceed = "warn"\n'
    )
    lines = run("check").stdout.splitlines()

    assert [line.strip() for line in lines[1:]] == [
        "Ledger: memory:// (in memory, forgotten with each process)",
        "Budgets",
        "├── all (5 USD)",
        "│   └── ab (2 USD)  per user  if team=a[b]* | !x",
        "├── pace (5 requests/second)  burst 9 requests  shadow",
        "└── soft (2 tokens/day)  only warns",
    ]


def test_it_shows_breakers_and_knows_their_balances() -> None:
    """
    A breaker that is gone left balances behind, and one that is there did not.
    """
    condition = "cache_hit >= 0.5 after 1M total_input_tokens/day"
    written(
        'ledger = "sqlite:///ledger.db"\nbudget = "5 USD"\n[breakers.cache]\nresume_after_s = 5400\n'
        f'condition = "{condition}"\nper = "team"\nmatch = {{ model = ["amazon.nova-lite-v1:0", "amazon.nofa*"] }}\n'
        '[breakers.loop]\ncondition = "same_request <= 20/minute"\non_trip = "warn"\nmode = "shadow"\n'
    )
    with Guard(
        settings="bedrock-guard.toml", breakers=[f"{name}: {condition}" for name in ("cache", "gone")]
    ) as guard:
        spend(guard, {"usage": {"inputTokens": 2000, "outputTokens": 1, "totalTokens": 2001}})
    lines = [line.strip() for line in run("check").stdout.splitlines()]
    found = told()

    assert lines[lines.index("Breakers") :][:3] == [
        "Breakers",
        f"├── cache ({condition})  per team  if model=amazon.nova-lite-v1:0 | amazon.nofa*  resumes after 1 h 30 m",
        "└── loop (same_request <= 20/minute)  only warns  shadow",
    ]
    assert "Odd: breakers.cache.match.model: no model with a price fits 'amazon.nofa*'." in lines
    assert found["breakers"][0] == {
        "name": "cache",
        "condition": condition,
        "match": {"model": ["amazon.nova-lite-v1:0", "amazon.nofa*"]},
        "per": ["team"],
        "on_trip": "refuse",
        "resume_after_s": 5400,
        "mode": "enforce",
    }
    assert {each["budget"] for each in found["unnamed"]} == {"breaker:gone (refuse)"}


# --- the ledger ----------------------------------------------------------------------


def test_balances_that_no_budget_names_any_more_are_told() -> None:
    """
    A changed name or period starts afresh: right, and not to happen unseen.
    """
    url = "sqlite:///ledger.db"
    old = [
        Budget("user", "5 USD/day", per="user"),
        Budget("gone", "5000 requests"),
        Budget("same", "5 USD/month"),
    ]
    with Guard(budgets=old, ledger=url) as guard:
        for user in ("ann", "bob"):
            spend(guard, user=user)
    written(
        f'ledger = "{url}"\n[budgets.user]\nlimit = "9 USD/month"\nper = "user"\n[budgets.same]\nlimit = "1 USD/month"\n'
    )
    found = told()

    assert found["ledger_state"] == "4 balances"
    assert found["unnamed"] == [
        {
            "budget": "gone",
            "rule": "requests",
            "now": None,
            "unit": "requests",
            "balances": 1,
            "spent": 2,
            "pending": 0,
        },
        {
            "budget": "user",
            "rule": "USD/day@UTC",
            "now": "USD/month@UTC",
            "unit": "USD",
            "balances": 2,
            "spent": "0.0000492",  # 2 x (10 x 0.06 + 100 x 0.24) USD a million
            "pending": "0.00",
        },
    ]
    text = run("check").stdout
    assert (
        "Unnamed: gone (requests): 1 balance, spent 2 requests, pending 0 requests: no budget here has"
        in text
    )
    assert (
        "Unnamed: user (USD/day@UTC): 2 balances, spent $0.0000492, pending $0.00: the budget counts" in text
    )
    assert run("check", "--strict").exit_code == 1


def test_windows_that_are_over_are_nobodys_business() -> None:
    """
    Balances are kept for ever; a budget that was renamed a year ago is no news.
    """
    keys = {
        "over": LedgerKey("a", "USD/day@UTC", (), 19_999 * DAY),
        "now": LedgerKey("b", "USD/day@UTC", (), 20_000 * DAY),
        "life": LedgerKey("c", "tokens", (("user", "ann"),), 0),
        "strange": LedgerKey("d", "USD/fortnight@UTC", (), 0),
        "zone": LedgerKey("e", "USD/6 hours@Mars/Olympus", (), 0),
        "named": LedgerKey("f", "USD/day@UTC", (), 20_000 * DAY),
    }
    found = find_strangers(
        [Budget("f", "5 USD/day")], [Balance(key, 7, 1) for key in keys.values()], time_zone="UTC", now=NOW
    )

    assert [(each.budget, each.unit, each.balances) for each in found] == [
        ("b", "USD", 1),
        ("c", "tokens", 1),
        ("d", "USD", 1),
        ("e", "USD", 1),
    ]


@pytest.mark.parametrize(
    ("rule", "start_s", "full_at_s", "is_told"),
    [
        ("USD/rolling 24 hours", NOW - DAY, None, True),
        ("USD/rolling 24 hours", NOW - DAY - 2 * 2880, None, False),
        ("requests/second rate", 0, NOW + 1, True),
        ("requests/second rate", 0, NOW, False),
    ],
)
def test_what_rolls_is_told_while_it_counts_and_a_rate_until_it_is_full(
    rule: str, start_s: float, full_at_s: float | None, is_told: bool
) -> None:
    """
    Whoever renames them begins afresh until then, and not after.
    """
    balance = Balance(LedgerKey("old", rule, (), int(start_s // 2880) * 2880), 7, 0, full_at_s)

    assert bool(find_strangers([], [balance], time_zone="UTC", now=NOW)) is is_told


def test_a_ledger_that_cannot_be_read_is_wrong() -> None:
    """
    Every call would be refused.
    """
    Path("ledger.db").write_text("this is no database, and long enough to be looked at as one" * 20)
    written('budget = "5 USD"\nledger = "sqlite:///ledger.db"\n')
    found = told(exit_code=1)

    assert found["ledger_state"] == "cannot be read"
    assert "ledger.db" in found["problems"][0]
    assert run("check").stdout.count("Wrong: ") == 1


def test_the_file_of_a_ledger_is_only_read() -> None:
    """
    A look from a report's account must need no right to write.
    """
    with Guard(budget="a: 5 USD", ledger="sqlite:///ledger.db") as guard:
        spend(guard)
    path = written('budget = "a: 5 USD"\nledger = "sqlite:///ledger.db?sync=full"\n')
    before = Path("ledger.db").read_bytes()
    writer = sqlite3.connect("ledger.db", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")  # who would write, had to wait
    try:
        assert told(path)["problems"] == []
    finally:
        writer.close()

    assert Path("ledger.db").read_bytes() == before


# --- prices --------------------------------------------------------------------------


def test_a_model_that_is_named_and_has_no_price_is_wrong() -> None:
    """
    Its first call would be refused.
    """
    text = (
        'budget = "5 USD"\nledger = "memory://"\n[budgets.x]\nlimit = "5 USD"\n'
        'match = {{ model = ["anthropic.claude-9-opus", "!meta.*", "foo.*"], model_id = "us.{}" }}\n'
    )
    written(text.format("amazon.nova-lite-v1:0"))
    found = told(exit_code=1)

    assert found["problems"] == [UNPRICED]
    assert found["notes"] == ["budgets.x.match.model: no model with a price fits 'foo.*'."]
    written('on_unpriced = "allow"\n' + text.format("amazon.nova-lite-v1:0"))
    assert len(told()["notes"]) == 2
    written(text.format("x") + '[prices."anthropic.claude-9-opus"]\ninput_tokens = "1 USD/1M"\n')
    assert [problem for problem in told(exit_code=1)["problems"] if "claude-9" in problem] == []


def test_an_id_where_the_tag_has_the_model_is_odd() -> None:
    """
    It would match no call, and so be no limit.
    """
    written(f'ledger = "memory://"\n[budgets.x]\nlimit = "5 USD"\nmatch = {{ model = "{NOVA}" }}\n')

    assert told()["notes"] == [NO_MODEL]
    assert run("check", "--strict").exit_code == 1


# --- a changed file ------------------------------------------------------------------


def test_a_changed_limit_holds_from_the_next_call_and_forgets_nothing() -> None:
    """
    Usage is never reset by configuration.
    """
    text = 'ledger = "sqlite:///ledger.db"\n[budgets.user]\nper = "user"\n'
    path = written(text + 'limit = "5 USD/month"\n')
    with Guard(settings=path) as guard:
        spend(guard, user="ann")
        before = guard.status()[0]
    written(text + 'limits = { "*" = "5 USD/month", ann = "0.00002 USD/month" }\n')
    with Guard(settings=path) as guard:
        after = guard.status()[0]
        with pytest.raises(BudgetExceeded) as caught:
            spend(guard, user="ann")
        spend(guard, user="bob")

    assert (after.spent, after.per) == (before.spent, before.per)
    assert (str(before.limit), str(after.limit)) == ("5.00", "0.00002")
    assert caught.value.spent == before.spent


def test_a_program_that_runs_keeps_the_limits_it_began_with() -> None:
    """
    A file that is edited half-way must not be half a policy.
    """
    path = written('ledger = "memory://"\nbudget = "a: 5 USD"\n')
    with Guard(settings=path) as guard:
        path.write_text("nonsense")
        spend(guard)

        assert str(guard.budgets[0]) == "a (5 USD)"
    with pytest.raises(ConfigurationError, match="is no TOML"):
        resolve(settings=path)
