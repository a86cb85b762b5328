"""
How telemetry is asked for, and the table of what it tells.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.config.load import resolve
from bedrock_guard.domain.entry import Attempt, Entry
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.operations import METERED
from bedrock_guard.telemetry import EXPORTERS, open_telemetry
from bedrock_guard.telemetry.emf import EmbeddedMetrics
from bedrock_guard.telemetry.otel import OpenTelemetry
from bedrock_guard.telemetry.table import (
    DURATION_BUCKETS,
    FIGURES,
    NAMES,
    TAG,
    TAG_DIMENSION,
    TOKEN_BUCKETS,
    USAGE,
    USED_SHARE,
)
from bedrock_guard.testing.ledger_calls import answered, open_entry

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "telemetry.md").read_text()


def read(attribute: str, entry: Entry) -> Any:
    (found,) = [each.read(entry) for each in (*NAMES, *FIGURES) if each.attribute == attribute]
    return found


class Dead:
    """
    A provider that makes no meters.
    """

    def get_meter(self, *_: object) -> Any:
        raise RuntimeError("dead")


# Asked for


@pytest.mark.parametrize("given", [None, [], (), {"use": []}])
def test_nothing_is_told_unless_it_is_asked_for(given: Any) -> None:
    """
    An empty list takes back what a file says.
    """
    assert open_telemetry(given) == ()


@pytest.mark.parametrize("given", ["otel", ["otel"], {"use": "otel"}, ["otel", "otel"]])
def test_an_exporter_is_a_name_a_list_or_a_table(given: Any) -> None:
    """
    The same words in a program and in a file.
    """
    (exporter,) = open_telemetry(given)

    assert isinstance(exporter, OpenTelemetry)


def test_both_may_be_asked_for() -> None:
    """
    In the order that they are named.
    """
    assert [type(each) for each in open_telemetry(["powertools", "otel"])] == [EmbeddedMetrics, OpenTelemetry]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("otl", "'otl' is no telemetry; did you mean 'otel'?"),
        ([7], "^7 is no telemetry; known are otel, powertools"),
        ([{"use": "otel"}], "^{'use': 'otel'} is no telemetry; known are otel, powertools"),
        ({1: "otel"}, "no option 1; known are use, tags"),
        ("prometheus", "known are otel, powertools"),
        (True, r'telemetry is True; it is telemetry="otel"'),
        ({"tags": ["team"]}, r'it is telemetry="otel"'),
        ({"use": "otel", "tag": ["team"]}, "no option 'tag'; did you mean 'tags'?"),
        ({"use": "otel", "tags": "team"}, "tags is 'team'; it is a list of at most 10 names of tags"),
        ({"use": "otel", "tags": [f"{n}" for n in range(11)]}, "at most 10"),
        ({"use": "otel", "gen_ai": "no"}, "gen_ai is 'no'; it is true or false"),
        ({"use": "powertools", "service": ""}, "service is ''; it is a word of printable ASCII"),
        ({"use": "powertools", "service": "  "}, "it is a word of printable ASCII"),
        ({"use": "powertools", "service": "café"}, "it is a word of printable ASCII"),
        ({"use": "powertools", "service": 7}, "it is a word of printable ASCII"),
        ({"use": "otel", "meter_provider": 5}, "it is a MeterProvider"),
        ({"use": "otel", "meter_provider": Dead()}, r"makes no metrics: RuntimeError\('dead'\)"),
    ],
)
def test_what_cannot_be_understood_is_refused_before_the_first_call(given: Any, told: str) -> None:
    """
    With what is known instead.
    """
    with pytest.raises(ConfigurationError, match=told):
        Guard(budget="1 USD", ledger="memory://", telemetry=given)


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [("otel", "opentelemetry", "otel"), ("powertools", "aws_lambda_powertools.metrics", "powertools")],
)
def test_a_package_that_is_not_there_is_named(
    name: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When the guard is made: a program that tells nobody would be found out in an incident.
    """
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ConfigurationError, match=re.escape(f"pip install 'bedrock-guard[{extra}]'")):
        Guard(budget="1 USD", ledger="memory://", telemetry=name)


def test_a_file_may_ask_for_it(tmp_path: Path) -> None:
    """
    An argument is stronger, and no part of what is enforced.
    """
    path = tmp_path / "bedrock-guard.toml"
    path.write_text('budget = "1 USD"\n\n[telemetry]\nuse = ["otel"]\ntags = ["team"]\n')

    resolved = resolve(settings=path)

    assert resolved.telemetry == {"use": ["otel"], "tags": ["team"], "gen_ai": True, "service": "bedrock"}
    assert resolved == resolve(settings={"budget": "1 USD"})
    assert open_telemetry(resolved.telemetry) != ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('use = "otl"', r"line 3: telemetry: 'otl' is no telemetry; did you mean 'otel'\?"),
        ('uses = "otel"', "line 4: telemetry.uses is no setting; did you mean 'use'|telemetry"),
        ('use = "otel"\ntags = "team"', "line 5: telemetry.tags: Input should be a valid list"),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    """
    As every other.
    """
    path = tmp_path / "bedrock-guard.toml"
    path.write_text(f'budget = "1 USD"\n\n[telemetry]\n{text}\n')

    with pytest.raises(ConfigurationError, match=told):
        Guard(ledger="memory://", settings=path)


# Told


def test_a_tag_s_value_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """
    Tags may be of any length; CloudWatch drops lines whose dimensions are too long.
    """
    (exporter,) = open_telemetry({"use": "powertools", "tags": ["team"]})
    assert isinstance(exporter, EmbeddedMetrics)

    exporter.observe(answered("one", tags={"team": "x" * 10_000}))

    assert f'"{TAG_DIMENSION}team":"{"x" * 255}"' in capsys.readouterr().out


@pytest.mark.filterwarnings("error")
def test_a_tag_that_cloudwatch_would_not_take_is_written_so_that_it_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    It drops the whole line for one dimension that is not printable ASCII, and for a blank one.
    """
    (exporter,) = open_telemetry({"use": "powertools", "tags": ["équipe", "team", "blank", "long"]})
    assert isinstance(exporter, EmbeddedMetrics)

    tags = {"équipe": "été", "team": "a\nb\0", "blank": " \t", "long": "é" * 400}
    exporter.observe(answered("one", tags=tags))

    line = json.loads(capsys.readouterr().out)
    (dimensions,) = line["_aws"]["CloudWatchMetrics"][0]["Dimensions"]
    told = {name: line[name] for name in dimensions if name.startswith(TAG_DIMENSION)}
    assert told == {
        "tag_\\xe9quipe": "\\xe9t\\xe9",
        "tag_team": "a\\nb\\x00",
        "tag_long": ("\\xe9" * 400)[:255],
    }


@pytest.mark.parametrize(
    ("operation", "model", "name"),
    [
        ("Converse", "anthropic.claude-sonnet-4-5-20250929-v1:0", "chat"),
        ("InvokeModel", "anthropic.claude-sonnet-4-5-20250929-v1:0", "chat"),
        ("InvokeModel", "amazon.titan-embed-text-v2:0", "embeddings"),
        ("InvokeModel", "amazon.titan-text-express-v1", "text_completion"),
        ("InvokeModel", "amazon.titan-image-generator-v2:0", "generate_content"),
        ("InvokeModel", "cohere.rerank-v3-5:0", "rerank"),
        ("InvokeModel", None, "chat"),
        ("StartAsyncInvoke", "amazon.nova-reel-v1:1", "generate_content"),
        ("InvokeAgent", None, "invoke_agent"),
        ("InvokeInlineAgent", None, "invoke_agent"),
        ("InvokeFlow", None, "invoke_workflow"),
        ("Retrieve", None, "retrieval"),
        ("RetrieveAndGenerateStream", None, "retrieve_and_generate_stream"),
        ("ApplyGuardrail", None, "apply_guardrail"),
    ],
)
def test_operations_have_the_names_of_the_conventions(operation: str, model: str | None, name: str) -> None:
    """
    And AWS's own where these have none.
    """
    assert operation in {known for _, known in METERED}
    assert read("gen_ai.operation.name", open_entry("one", operation=operation, model=model)) == name


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (answered("one"), None),
        (
            open_entry(
                "one", outcome="rejected", attempts=(Attempt("rejected", 429, "ThrottlingException"),)
            ),
            "ThrottlingException",
        ),
        (open_entry("one", outcome="rejected", attempts=(Attempt("rejected", 404),)), "404"),
        (open_entry("one", outcome="lost", attempts=(Attempt("lost"),)), "_OTHER"),
        (open_entry("one", outcome="lost", attempts=(Attempt("lost", 200),)), "_OTHER"),
        (open_entry("one", outcome="lost", attempts=(Attempt("lost", 503),)), "503"),
        (open_entry("one", outcome="not_sent"), "_OTHER"),
        (open_entry("one", outcome="abandoned"), None),
        (open_entry("one", outcome="abandoned", reason="stopped"), "Stopped"),
        (open_entry("one", outcome="refused", budget="search"), "BudgetExceeded"),
        (open_entry("one", outcome="refused"), "Stopped"),
    ],
)
def test_an_error_has_a_name_of_few_values(entry: Entry, told: str | None) -> None:
    """
    As metrics have it as an attribute.
    """
    assert read("error.type", entry) == told


def test_a_model_that_is_not_known_has_its_operation_by_its_id() -> None:
    """
    The id is all there is.
    """
    entry = open_entry("one", operation="InvokeModel", model=None, model_id="x.embed-v9")

    assert read("gen_ai.operation.name", entry) == "embeddings"


@pytest.mark.parametrize(
    ("attribute", "fields", "told"),
    [
        ("bedrock_guard.exceeded", {"exceeded": ("team",)}, ("team",)),
        ("bedrock_guard.exceeded", {}, None),
        ("bedrock_guard.allowed_by", {"allowed_by": "on_ledger_error"}, "on_ledger_error"),
        ("bedrock_guard.clamped_max_tokens", {"clamped_max_tokens": 50}, 50),
        ("bedrock_guard.waited_ms", {"waited_ms": 20}, 20),
        ("bedrock_guard.waited_ms", {}, None),
        ("bedrock_guard.list_cost_usd", {"list_cost_nanousd": 10**9}, 1.0),
        ("gen_ai.usage.input_tokens", {"reported_usage": {"output_tokens": 3}}, None),
        ("gen_ai.usage.output_tokens", {"reported_usage": {"output_tokens": 3}}, 3),
    ],
)
def test_what_a_call_has_is_told_and_what_it_has_not_is_left_out(
    attribute: str, fields: dict[str, Any], told: Any
) -> None:
    """
    A name without a value would be one more to look at.
    """
    assert read(attribute, answered("one", **fields)) == told


def test_refusals_that_were_alike_are_all_counted() -> None:
    """
    One entry may stand for many.
    """
    (figure,) = [each for each in FIGURES if each.metric == "bedrock_guard.refused_calls"]

    assert figure.read(open_entry("one", outcome="refused", count=3)) == 3


def test_histograms_have_the_bounds_of_the_conventions() -> None:
    """
    Backends compare the figures of several tools.
    """
    assert (
        *(1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536),
        *(262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864),
    ) == TOKEN_BUCKETS
    assert (
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
        *(1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    ) == DURATION_BUCKETS


def test_what_has_no_price_tells_no_cost() -> None:
    """
    0 would say that it was free.
    """
    assert read("bedrock_guard.cost_usd", answered("one", cost_nanousd=None)) is None


def test_a_model_that_is_asked_for_and_one_that_is_asked_instead_are_both_told() -> None:
    """
    A fallback shows in its own right.
    """
    entry = answered(
        "one", model_id="us.amazon.nova-lite-v1:0", model="amazon.nova-lite-v1:0", fallback_from="us.x.y"
    )

    assert read("gen_ai.request.model", entry) == "us.x.y"
    assert read("gen_ai.response.model", entry) == "amazon.nova-lite-v1:0"


def test_nothing_reads_of_an_open_call_what_it_came_to() -> None:
    """
    What is told before a call is what was known then.
    """
    entry = open_entry("one", estimated_cost_nanousd=10**9)
    early = {each.attribute: each.read(entry) for each in (*NAMES, *FIGURES) if each.is_early}

    assert early["bedrock_guard.reserved_usd"] == 1.0
    assert read("bedrock_guard.cost_usd", entry) is None
    assert [name for name, value in early.items() if value is None] == []


# Documented


def rows() -> list[str]:
    """
    The lines of the page's tables, as the code has them.
    """
    shown = [each for each in (*NAMES, *FIGURES) if each.attribute]
    spans = [f"| `{each.attribute}` | {each.text} |" for each in shown]
    names = [f"`{name.attribute}`" for name in NAMES if name.is_of_metrics]
    metrics = [
        f"| `{each.metric}` | {each.kind}, {each.unit} | {each.text} |" for each in FIGURES if each.metric
    ]
    emf = [f"| `{each.emf}` | {each.text} |" for each in FIGURES if each.emf]
    return [
        *spans,
        *names,
        *metrics,
        *emf,
        f"`{USAGE}`",
        f"`{USED_SHARE}`",
        f"`{TAG}<name>`",
        f"`{TAG_DIMENSION}<name>`",
    ]


def test_the_page_says_what_the_table_says() -> None:
    """
    Dashboards are built by it.
    """
    assert [row for row in rows() if row not in PAGE] == []
    told = re.findall(r"^\| `((?:gen_ai|error|bedrock_guard)\.[\w.]+)` \|", PAGE, re.MULTILINE)
    known = (
        {each.attribute for each in (*NAMES, *FIGURES)}
        | {each.metric for each in FIGURES}
        | {USAGE, USED_SHARE}
    )
    assert [name for name in told if name not in known] == []


def test_a_figure_is_described_without_the_one_before() -> None:
    """
    It is in several tables of the page, each with other neighbours.
    """
    assert [figure.text for figure in FIGURES if "the same" in figure.text] == []


def test_every_exporter_is_documented() -> None:
    """
    A name nobody can find is never asked for.
    """
    assert [name for name in EXPORTERS if f'"{name}"' not in PAGE] == []


def test_telemetry_is_imported_on_use(run_python: Callable[[str], str]) -> None:
    """
    A program that asks for none pays for none.
    """
    code = "import sys; from bedrock_guard import Guard; Guard(budget='1 USD', ledger='memory://', settings={}); print([m for m in ('opentelemetry', 'aws_lambda_powertools') if m in sys.modules])"

    assert run_python(code) == "[]"


@pytest.fixture
def run_python() -> Callable[[str], str]:
    import subprocess

    def run(code: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()

    return run
