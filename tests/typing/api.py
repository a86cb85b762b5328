"""
The public names as a type checker sees them. NOT meant to be executed.
"""

from decimal import Decimal
from typing import assert_type

import boto3
from botocore.client import BaseClient

from bedrock_guard import Budget, BudgetExceeded, Guard, bind, guard, guarded_session, scope, unguard
from bedrock_guard.alerts.log import LogSink
from bedrock_guard.domain.alert import Alert
from bedrock_guard.domain.entry import Entry
from bedrock_guard.holding import Hold
from bedrock_guard.plan import Estimate


def a_guarded_client_keeps_its_type(client: BaseClient) -> None:
    assert_type(guard(client, budget="5 USD/day"), BaseClient)
    assert_type(unguard(client), BaseClient)
    assert_type(Guard(budget="5 USD/day").attach(client), BaseClient)


def a_session_stays_a_session(session: boto3.Session) -> None:
    assert_type(guarded_session(session, budget=Budget("all", "5 USD/day", per="user")), boto3.Session)


def a_bound_function_keeps_its_signature() -> None:
    def work(number: int, *, loud: bool) -> str:
        return f"{number}{loud}"

    assert_type(bind(work)(1, loud=True), str)


def a_lambda_handler_keeps_its_signature(guard: Guard) -> None:
    @guard.lambda_handler
    def handler(event: dict[str, str], context: object) -> int:
        return len(event)

    assert_type(handler({"any": "thing"}, context=None), int)
    assert_type(guard.flush(timeout_s=1), bool)


def a_hold_is_entered_and_ends_as_an_entry(guard: Guard) -> None:
    with guard.hold("Converse", {"modelId": "any"}, region="us-east-1") as hold:
        assert_type(hold, Hold)
        assert_type(hold.settle(b"{}", headers={"any": "header"}), Entry)
        assert_type(hold.rejected(429, error_code="ThrottlingException"), Entry)
        assert_type(hold.lost(), Entry)
    assert_type(hold.entry, Entry | None)
    assert_type(hold.estimate, Estimate)


def a_refusal_has_figures(refusal: BudgetExceeded) -> None:
    assert_type(refusal.limit, Decimal | int)
    assert_type(BudgetExceeded.find(refusal), BudgetExceeded | None)
    with scope(team="search") as tally:
        assert_type(tally.cost, Decimal)


def a_sink_is_a_name_a_table_a_function_or_an_object(told: list[Alert]) -> None:
    table = {"use": "webhook", "url": "https://example.org"}
    budget = Budget("all", "5 USD/day", alerts=(0.5, 1))
    assert_type(Guard(budget=budget, sinks=["log", table, told.append, LogSink()]), Guard)
