"""
Where settings come from, and what a mistake in them says.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bedrock_guard.config.load import NoFile, default_ledger_url, resolve
from bedrock_guard.config.model import read_settings
from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import ConfigurationError

FILE = """\
ledger = "memory://"
time_zone = "Europe/Berlin"
tags = { service = "search" }

[budgets.all]
limit = "250 USD/month"

[budgets.user]
limit = "5 USD/day"
per = "user"
match = { model = "anthropic.*" }
"""


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("BUDGET", "LEDGER", "CONFIG"):
        monkeypatch.delenv(f"BEDROCK_GUARD_{name}", raising=False)
    for name in ("AWS_LAMBDA_FUNCTION_NAME", "ECS_CONTAINER_METADATA_URI_V4", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_file_says_everything(tmp_path: Path) -> None:
    """
    One file can hold the whole policy, so that a program's code need not.
    """
    path = tmp_path / "policy.toml"
    path.write_text(FILE)

    resolved = resolve(settings=path)

    assert resolved.ledger == "memory://"
    assert resolved.tags == {"service": "search"}
    assert resolved.settings == Settings(time_zone="Europe/Berlin")
    assert [str(budget) for budget in resolved.budgets] == ["all (250 USD/month)", "user (5 USD/day)"]
    assert (resolved.budgets[1].per, resolved.budgets[1].match) == (("user",), {"model": "anthropic.*"})


def test_the_file_is_found_from_the_working_folder_upwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Tools and tests run from sub-folders of a project.
    """
    (tmp_path / "pyproject.toml").write_text('[tool.bedrock_guard]\nbudget = "7 USD"\nledger = "memory://"\n')
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)

    assert str(resolve().budgets[0]) == "default (7 USD)"
    (tmp_path / "a" / "bedrock-guard.toml").write_text('budget = "8 USD"\nledger = "memory://"\n')
    assert str(resolve().budgets[0]) == "default (8 USD)"


def test_in_a_container_only_a_named_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    An agent that can write files must not edit its own limit.
    """
    (tmp_path / "bedrock-guard.toml").write_text('budget = "8 USD"\nledger = "memory://"\n')
    monkeypatch.setenv("ECS_CONTAINER_METADATA_URI_V4", "x")

    with pytest.raises(ConfigurationError, match="No budget is set"):
        resolve()
    monkeypatch.setenv("BEDROCK_GUARD_CONFIG", str(tmp_path / "bedrock-guard.toml"))
    assert str(resolve().budgets[0]) == "default (8 USD)"


def test_arguments_beat_the_environment_and_that_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    An operator must be able to overrule a file, and a test an operator.
    """
    path = tmp_path / "policy.toml"
    path.write_text(FILE)
    monkeypatch.setenv("BEDROCK_GUARD_BUDGET", "1 USD")
    monkeypatch.setenv("BEDROCK_GUARD_LEDGER", "sqlite:///env.db")
    monkeypatch.setenv("BEDROCK_GUARD_CONFIG", str(path))

    from_environment = resolve()
    from_a_named_file = resolve(settings=path)
    from_arguments = resolve(settings=path, budget="2 USD", ledger="memory://", overrides={"hold_s": 5})

    assert (str(from_environment.budgets[0]), from_environment.ledger) == (
        "default (1 USD)",
        "sqlite:///env.db",
    )
    assert (str(from_arguments.budgets[0]), from_arguments.ledger) == ("default (2 USD)", "memory://")
    assert from_arguments.settings.hold_s == 5
    assert (len(from_a_named_file.budgets), from_a_named_file.ledger) == (2, "memory://")


def test_no_budget_anywhere_shows_the_line_to_write() -> None:
    """
    A guard without a budget that kept quiet would be the incident again.
    """
    with pytest.raises(ConfigurationError, match='budget="5 USD/day"'):
        resolve(ledger="memory://")


def test_no_budgets_on_purpose_records_only() -> None:
    """
    Some want the figures first.
    """
    assert resolve(budgets=[], ledger="memory://").budgets == ()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('buget = "5 USD"\n', "line 1: buget is no setting; did you mean 'budget'"),
        ('budget = "5 USD"\n\n[budgets.a]\nlimt = "5 USD"\n', "line 4: budgets.a.limt is no setting"),
        ('budget = "5 USD"\nhold_s = -1\n', "line 2: hold_s"),
        ('budget = "5 USD"\n[budgets.default]\nlimit = "6 USD"\n', "line 1: budget: 'default' is the name"),
        ('budget = "5 USD"\nledger = "dynamodb://table"\n', "line 2: ledger: This ledger may be shared"),
        ('budget = "5 USD"\n[tags]\nmodel = "mine"\n', "line 3: tags.model: 'model' is a built-in tag"),
        ('budget = "5 USD"\non_ledger_error = "allow"\n', "line 2: on_ledger_error"),
        ('budget = "5 EUR"\n', "'5 EUR' is not a limit"),
        ('budget = "5 USD"\non_unpriced = "free"\n', "line 2: on_unpriced"),
        ("budget = \n", "is no TOML"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    """
    A setting that is quietly ignored is a limit that is not there.
    """
    path = tmp_path / "policy.toml"
    path.write_text(text)

    with pytest.raises(ConfigurationError) as caught:
        resolve(settings=path)

    assert says in str(caught.value)
    assert "policy.toml" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """
    A named file that is missing must not fall back to none.
    """
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml"):
        resolve(settings=tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"budget": "1 USD", "budgets": []}, "both given"),
        ({"budget": "1 USD", "overrides": {"on_unpricd": "allow"}}, "'on_unpricd' is no setting"),
        ({"budget": "1 USD", "overrides": {"untagged": "drop"}}, "untagged"),
        ({"budget": 5}, "5 is not a budget"),
        ({"budget": "1 USD", "overrides": {"on_ledger_error": "warn"}}, "on_ledger_error"),
        (
            {"budget": "1 USD", "overrides": {"on_ledger_error": "allow"}},
            'write allow_up_to = "5 USD/hour" beside it',
        ),
        (
            {"budget": "1 USD", "overrides": {"allow_up_to": "5 USD/hour"}},
            'has a meaning only with on_ledger_error = "allow"',
        ),
        (
            {"budget": "1 USD", "overrides": {"on_ledger_error": "allow", "allow_up_to": "5 USD/fortnight"}},
            "arguments: allow_up_to: '5 USD/fortnight' is not a limit: 'fortnight' is no period",
        ),
        (
            {"budget": "1 USD", "overrides": {"on_ledger_error": "allow", "allow_up_to": "9 requests/day"}},
            "allow_up_to is '9 requests/day'; it is an amount of USD",
        ),
        ({"budget": "1 USD", "overrides": {"allow_up_to": 5}}, "arguments: allow_up_to"),
        ({"budget": "1 USD", "settings": Settings(on_ledger_error="allow")}, "write allow_up_to"),
        (
            {"budget": "1 USD", "settings": Settings(on_ledger_error="allow", allow_up_to=5)},  # type: ignore[arg-type]
            "allow_up_to is 5; it is an amount of USD",
        ),
        ({"budget": "1 USD", "settings": Settings(on_ledger_error="warn")}, "it is 'refuse' or 'allow'"),  # type: ignore[arg-type]
    ],
)
def test_a_mistake_in_an_argument_is_refused(arguments: dict[str, object], says: str) -> None:
    """
    Names whose time has not come raise; they are never ignored.
    """
    with pytest.raises(ConfigurationError, match=says):
        resolve(ledger="memory://", **arguments)  # type: ignore[arg-type]


def test_allow_up_to_is_set_and_unset_by_name(tmp_path: Path) -> None:
    """
    A file lets calls through for a fleet, and one program may be stricter.
    """
    path = tmp_path / "policy.toml"
    path.write_text('budget = "5 USD"\non_ledger_error = "allow"\nallow_up_to = "$2/6 hours"\n')

    in_file = resolve(settings=path, ledger="memory://").settings
    stricter = resolve(
        settings=path, ledger="memory://", overrides={"on_ledger_error": "refuse", "allow_up_to": None}
    ).settings

    assert (in_file.on_ledger_error, in_file.allow_up_to) == ("allow", "$2/6 hours")
    assert json.loads(json.dumps(asdict(in_file)))["allow_up_to"] == "$2/6 hours"
    assert stricter == Settings()


def test_budgets_may_be_strings_or_budgets() -> None:
    """
    The short form must not end where a second budget begins.
    """
    resolved = resolve(budgets=["5 USD/day", Budget("b", "9 USD")], ledger="memory://")

    assert [str(budget) for budget in resolved.budgets] == ["default (5 USD/day)", "b (9 USD)"]


def test_the_default_ledger_is_the_users_own_and_shared() -> None:
    """
    A second process must find the first one's spending.
    """
    assert default_ledger_url().startswith("sqlite:////")
    assert default_ledger_url().endswith("bedrock-guard/ledger.db")


def test_lambda_has_no_default_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    There each environment would have the whole budget, times the concurrency.
    """
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "f")

    with pytest.raises(ConfigurationError, match=r"In Lambda .*dynamodb://my-budgets.*create-table"):
        resolve(budget="5 USD/day")
    assert resolve(budget="all: 5 USD/day", ledger="dynamodb://my-budgets").ledger == "dynamodb://my-budgets"


def test_a_container_is_warned_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The budget holds for one container only, and that must be said.
    """
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "x")

    assert default_ledger_url()
    assert "holds for it alone" in caplog.text


def test_no_file_says_what_an_empty_one_does() -> None:
    """
    It is not read by pydantic, whose import is a fifth of a guard's start.
    """
    nothing, empty = NoFile(), read_settings({}, where="settings=")

    assert nothing.to_settings() == empty.to_settings()
    assert (nothing.to_budgets(), nothing.to_breakers()) == (empty.to_budgets(), empty.to_breakers())
    assert (nothing.ledger, nothing.sinks, nothing.tags) == (empty.ledger, empty.sinks, empty.tags)
    assert nothing.place("mode") == empty.place("mode")
