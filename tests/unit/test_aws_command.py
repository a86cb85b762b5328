"""
`bedrock-guard aws`: templates for CloudFormation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from bedrock_guard.alerts.powertools import MetricsSink
from bedrock_guard.cli import app
from bedrock_guard.domain import metric_names
from bedrock_guard.domain.alert import Alert
from bedrock_guard.testing.ledger_calls import answered, open_entry

# What CloudFormation takes: the required properties of each type, and all others that are used here.
PROPERTIES = {
    "AWS::SNS::Topic": ((), ()),
    "AWS::SNS::TopicPolicy": (("PolicyDocument", "Topics"), ()),
    "AWS::SNS::Subscription": (("Protocol", "TopicArn"), ("Endpoint",)),
    "AWS::Budgets::Budget": (("Budget",), ("NotificationsWithSubscribers",)),
    "AWS::Budgets::BudgetsAction": (
        ("ActionThreshold", "ActionType", "BudgetName", "Definition", "ExecutionRoleArn", "NotificationType"),
        ("ApprovalModel", "Subscribers"),
    ),
    "AWS::IAM::ManagedPolicy": (("PolicyDocument",), ("Description",)),
    "AWS::IAM::Role": (("AssumeRolePolicyDocument",), ("Policies",)),
    "AWS::CloudWatch::Dashboard": (("DashboardBody",), ()),
    "AWS::CloudWatch::Alarm": (
        ("ComparisonOperator", "EvaluationPeriods"),
        (
            "AlarmActions",
            "AlarmDescription",
            "Dimensions",
            "MetricName",
            "Namespace",
            "Period",
            "Statistic",
            "Threshold",
            "TreatMissingData",
        ),
    ),
}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["aws", *arguments])


def template(*arguments: str) -> dict[str, Any]:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if set(value) == {"Ref"}:
            yield value["Ref"]
        if set(value) == {"Fn::GetAtt"}:
            yield value["Fn::GetAtt"][0]
        if set(value) == {"Fn::Sub"}:
            yield from re.findall(r"\$\{([^}]*)\}", value["Fn::Sub"])
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


BACKSTOP = (
    "backstop",
    "500 USD/month",
    "--role",
    "team/search",
    "--group",
    "devs",
    "--service",
    "Amazon Bedrock",
)
DASHBOARD = ("dashboard", "search", "--budget", "day: all", "--budget", "team-search")


@pytest.mark.parametrize("arguments", [BACKSTOP, (*BACKSTOP, "--email", "a@b.example"), DASHBOARD])
def test_a_template_is_one_that_cloudformation_takes(arguments: tuple[str, ...]) -> None:
    """
    Whoever needs it has no time to repair it.
    """
    found = template(*arguments)

    assert set(found) == {"AWSTemplateFormatVersion", "Description", "Resources", "Outputs"}
    for name, resource in found["Resources"].items():
        required, others = PROPERTIES[resource["Type"]]
        given = set(resource.get("Properties", {}))
        assert set(required) <= given <= {*required, *others}, name
        assert re.fullmatch("[A-Za-z0-9]{1,255}", name)
        assert resource.get("DependsOn", name) in found["Resources"]
    known = {*found["Resources"], "AWS::AccountId", "AWS::Partition", "AWS::Region"}
    assert set(references(found)) <= known


def test_the_backstop_denies_inference_to_whom_it_names_and_may_do_nothing_else() -> None:
    """
    A role that could attach any policy to anybody would be worse than the bill.
    """
    resources = template(*BACKSTOP)["Resources"]

    (deny,) = resources["DenyPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert (deny["Effect"], deny["Resource"]) == ("Deny", "*")
    wanted = {"bedrock:InvokeModel*", "bedrock:Converse*", "bedrock-mantle:CreateInference"}
    assert wanted <= set(deny["Action"])
    (attach,) = resources["ActionRole"]["Properties"]["Policies"]
    role, group = attach["PolicyDocument"]["Statement"]
    assert role["Action"] == ["iam:AttachRolePolicy", "iam:DetachRolePolicy"]
    assert role["Resource"] == [{"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/team/search"}]
    assert group["Action"] == ["iam:AttachGroupPolicy", "iam:DetachGroupPolicy"]
    assert {json.dumps(each["Condition"]) for each in (role, group)} == {
        json.dumps({"ArnEquals": {"iam:PolicyARN": {"Ref": "DenyPolicy"}}})
    }
    action = resources["Action"]["Properties"]
    assert action["Definition"]["IamActionDefinition"] == {
        "PolicyArn": {"Ref": "DenyPolicy"},
        "Roles": ["search"],
        "Groups": ["devs"],
    }
    assert (action["ApprovalModel"], action["ActionThreshold"]["Value"]) == ("AUTOMATIC", 100)
    budget = resources["Budget"]["Properties"]["Budget"]
    assert budget["BudgetLimit"] == {"Amount": "500.00", "Unit": "USD"}
    assert (budget["TimeUnit"], budget["CostFilters"]) == ("MONTHLY", {"Service": ["Amazon Bedrock"]})


def test_the_backstop_of_a_whole_account_has_no_filter() -> None:
    """
    Then nothing that Bedrock is billed under can be missing in it.
    """
    found = template("backstop", "1000.50 USD/quarter", "--role", "x", "--whole-account")

    budget = found["Resources"]["Budget"]["Properties"]["Budget"]
    assert "CostFilters" not in budget
    assert (budget["TimeUnit"], budget["BudgetLimit"]["Amount"]) == ("QUARTERLY", "1000.50")


def test_the_dashboard_and_its_alarms_read_the_metrics_that_are_emitted() -> None:
    """
    By the names that the sink has, or they would stay empty for ever.
    """
    resources = template(*DASHBOARD, "--share", "0.9")["Resources"]

    body = json.loads(resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    shown = [metric for widget in body["widgets"] for metric in widget["properties"]["metrics"]]
    assert {metric[1] for metric in shown} == {
        metric_names.BUDGET_USED_SHARE,
        metric_names.COST_USD,
        metric_names.REFUSED_CALLS,
        metric_names.CACHE_HIT_SHARE,
    }
    assert ["BedrockGuard", "budget_used_share", "service", "search", "budget", "day: all"] in shown
    alarms = {
        (each["Properties"]["MetricName"], each["Properties"]["Threshold"])
        for each in resources.values()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    }
    assert alarms == {("budget_used_share", 0.9), ("refused_calls", 1), ("cache_hit_share", 0.5)}
    used = resources["Used1dayall"]["Properties"]
    assert used["Dimensions"] == [
        {"Name": "service", "Value": "search"},
        {"Name": "budget", "Value": "day: all"},
    ]
    assert used["AlarmDescription"].startswith("90")


def test_each_metric_is_emitted_with_just_the_dimensions_that_are_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """
    CloudWatch keeps one metric for each set of dimensions, and adds none up: an alarm on another never rings.
    """
    resources = template("dashboard", "search", "--budget", "day")["Resources"]
    body = json.loads(resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    read = {
        (name, frozenset(zip(dimensions[::2], dimensions[1::2], strict=True)))
        for widget in body["widgets"]
        for _, name, *dimensions in widget["properties"]["metrics"]
    } | {
        (alarm["MetricName"], frozenset((each["Name"], each["Value"]) for each in alarm["Dimensions"]))
        for alarm in (each["Properties"] for each in resources.values() if "Alarm" in each["Type"])
    }

    sink = MetricsSink(service="search")
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    share = Alert(
        id="one",
        kind="threshold",
        threshold=0.8,
        budget="day",
        per=(),
        window_start=moment,
        window_end=None,
        unit="USD",
        spent=Decimal(4),
        limit=Decimal(5),
        text="80 % is reached",
        at=moment,
    )
    sink.send(share)
    usage = {"input_tokens": 25, "cache_read_input_tokens": 75}
    sink.observe(answered("one", usage=usage, cost_nanousd=1_500_000))
    sink.observe(open_entry("two", outcome="refused", budget="day"))

    emitted = set()
    for line in map(json.loads, capsys.readouterr().out.splitlines()):
        (told,) = line["_aws"]["CloudWatchMetrics"]
        emitted |= {
            (metric["Name"], frozenset((name, line[name]) for name in names))
            for metric in told["Metrics"]
            for names in told["Dimensions"]
        }
    assert read <= emitted


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("backstop", "500 USD/day", "--role", "x", "--whole-account"), "AWS Budgets acts on USD a month"),
        (("backstop", "5 requests/month", "--role", "x", "--whole-account"), "AWS Budgets acts on USD"),
        (("backstop", "nonsense", "--role", "x", "--whole-account"), "is not a limit"),
        (("backstop", "5 USD/month", "--whole-account"), "Name who is denied"),
        (("backstop", "5 USD/month", "--role", "x"), "Say whose cost counts"),
        (("backstop", "5 USD/month", "--role", "arn:aws:iam::1:role/x", "--whole-account"), "not its ARN"),
        (("dashboard", "${x}"), "is no service's name"),
        (("dashboard", "x", "--budget", "!"), "is not a budget's name"),
        (("dashboard", "x", "--share", "80"), "it is a share, from 0 to 1"),
        (("dashboard", "x", "--share", "most"), "it is a share, from 0 to 1"),
    ],
)
def test_a_mistake_is_told(arguments: tuple[str, ...], text: str) -> None:
    """
    Before anybody deploys it.
    """
    done = run(*arguments)

    assert (done.exit_code, done.stdout) == (2, "")
    assert text in done.stderr
