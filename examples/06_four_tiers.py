"""
Four tiers in one month of virtual time: customer > team > key > model, and what a key may do in an hour.

Each tier is a plain budget with a balance for each value; a call must fit in all that match.
"""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import boto3

from bedrock_guard import Budget, BudgetExceeded, Guard, scope
from bedrock_guard.testing.bedrock_server import BedrockServer

OPUS, SONNET = "us.anthropic.claude-opus-4-6-v1", "us.anthropic.claude-sonnet-4-6"
KEY = ("customer", "team", "key")
BUDGETS = [
    Budget("customer", "5000 USD/month", per="customer"),
    Budget("team", "2000 USD/month", per=("customer", "team")),
    Budget("key", "500 USD/week", per=KEY),
    Budget("model", "1000 USD/month", per=(*KEY, "model")),
    Budget("key requests", "100 requests/hour", per=KEY),
    Budget("key tokens", "50_000 tokens/hour", per=KEY),
]
# A dear model makes a short month: $1 for 1,000 tokens, so that a call of 25,000 is $25.
PRICES = {"*": {"input_tokens": "1000 USD/1M", "output_tokens": "1000 USD/1M"}}
RATES = {model: {"input_tokens": "0.001", "output_tokens": "0.001"} for model in (OPUS, SONNET)}

now = [datetime(2026, 6, 1, tzinfo=UTC).timestamp()]  # a Monday, and the first of a month
HOUR, WEEK = 3600, 7 * 86400


def ask(team, key, model=OPUS, tokens=24_900):
    """
    One call; the names of the budgets that refused it, the one that frees last first.
    """
    with scope(customer="acme", team=team, key=key):
        try:
            bedrock.converse(
                modelId=model,
                messages=[{"role": "user", "content": [{"text": "write a book"}]}],
                inferenceConfig={"maxTokens": tokens},
            )
        except BudgetExceeded as refusal:
            return [each.budget for each in refusal.refusals]
    return []


def spend_all(team, key, model=OPUS):
    """
    As many calls as the tokens of each hour allow, until dollars refuse: whose, and after how many.
    """
    calls = 0
    while True:
        refused = ask(team, key, model)
        if not refused:
            calls += 1
        elif refused == ["key tokens"]:
            now[0] += HOUR
        else:
            return refused[0], calls


with (
    BedrockServer(rates=RATES, output_tokens=50_000) as server,
    Guard(budgets=BUDGETS, ledger="memory://", prices=PRICES, clock=lambda: now[0], sinks=[]) as my_guard,
):
    bedrock = my_guard.attach(
        boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=server.url,
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
    )

    # An hour: 100 requests, or 50,000 tokens, for each key.
    small = Counter(tuple(ask("search", "small", tokens=10)) for _ in range(110))
    assert small == {(): 100, ("key requests",): 10}
    assert [ask("search", "large") for _ in range(3)] == [[], [], ["key tokens"]]
    now[0] += HOUR
    assert ask("search", "large") == []
    print("an hour: 100 requests, or two calls of 25,000 tokens, for each key")

    # A week: 500 for each key; 20 calls at 24.9 and some cents of input.
    now[0] += WEEK
    assert spend_all("search", "k1") == ("key", 20)
    now[0] += WEEK
    # A month: 1,000 for each model of a key, which ends here with the week; then another model has room.
    assert spend_all("search", "k1") == ("model", 20)
    now[0] += WEEK
    assert spend_all("search", "k1") == ("model", 0)
    assert spend_all("search", "k1", SONNET) == ("key", 20)
    print("a key: 500 a week, and 1,000 a month of one model")

    # A month: 2,000 for each team, whichever of its keys asks.
    assert spend_all("search", "k2") == ("team", 17)  # k1 had 60, and 3 large and 100 small ones were before
    assert spend_all("search", "k3") == ("team", 0)
    print("a team: 2,000 a month, by however many keys")

    # A month: 5,000 for the customer, whichever of its teams asks.
    ends = Counter()
    for team in ("ads", "news"):
        for key in ("k4", "k5", "k6", "k7", "k8"):
            ends[spend_all(team, f"{team}-{key}")[0]] += 1
    assert ends == {"key": 4, "team": 2, "customer": 4}
    assert spend_all("maps", "k9") == ("customer", 0)

    # What it came to, by the server's own bill.
    rows = my_guard.status()
    (customer,) = [row for row in rows if row.budget == "customer"]
    teams = {dict(row.per)["team"]: row for row in rows if row.budget == "team"}
    assert customer.spent == server.bill.usd
    assert customer.spent == sum(row.spent for row in teams.values())
    assert customer.spent == Decimal("4981.90")  # 18.10 is left, and a call is 24.90
    assert all(row.spent <= row.limit and row.pending == 0 for row in rows)
    for name, row in sorted(teams.items()):
        print(f"  {name}: ${row.spent} of ${row.limit}")
    print(f"the customer: ${customer.spent} of ${customer.limit}, in {server.bill.requests} calls")
