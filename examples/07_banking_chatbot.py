"""
A bank's chatbot: 100 agents with 50,000 tokens and $4 a month each, 10 supervisors with four times that,
and $500 for all of them together. Somebody is told at 50, 80, 90 and 100 %, and no call is sent above that.

In May they use a cheap model, and tokens end first; in June a dear one, and money does.
"""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import boto3

from bedrock_guard import Budget, BudgetExceeded, Guard, scope
from bedrock_guard.testing.bedrock_server import BedrockServer

CHEAP, DEAR = "us.anthropic.claude-sonnet-4-6", "us.anthropic.claude-opus-4-6-v1"
AT = (0.5, 0.8, 0.9, 1.0)
# Who does not say what they are is no supervisor.
AGENTS_DO, SUPERVISORS_DO = {"role": "!supervisor"}, {"role": "supervisor"}
BUDGETS = [
    Budget("all", "500 USD/month", alerts=AT),
    Budget("agent money", "4 USD/month", per="agent", match=AGENTS_DO, alerts=AT),
    Budget("agent tokens", "50_000 tokens/month", per="agent", match=AGENTS_DO, alerts=AT),
    Budget("supervisor money", "16 USD/month", per="agent", match=SUPERVISORS_DO, alerts=AT),
    Budget("supervisor tokens", "200_000 tokens/month", per="agent", match=SUPERVISORS_DO, alerts=AT),
]
PRICES = {
    "*sonnet*": {"input_tokens": "20 USD/1M", "output_tokens": "20 USD/1M"},
    "*opus*": {"input_tokens": "200 USD/1M", "output_tokens": "200 USD/1M"},
}
RATES = {
    CHEAP: {"input_tokens": "0.00002", "output_tokens": "0.00002"},
    DEAR: {"input_tokens": "0.0002", "output_tokens": "0.0002"},
}
AGENTS = [(f"agent-{n}", "agent") for n in range(100)]
SUPERVISORS = [(f"supervisor-{n}", "supervisor") for n in range(10)]

now = datetime(2026, 5, 4, tzinfo=UTC).timestamp()
alerts = []


def told():
    """
    What was told since the last time: of each budget and kind, by how many balances.
    """
    assert my_guard.flush(timeout_s=30)
    assert len({alert.id for alert in alerts}) == len(alerts), "each is told once"
    counted = Counter((alert.budget, alert.threshold or alert.kind) for alert in alerts)
    alerts.clear()
    return counted


def all_of(budget, balances):
    """
    Every share once for each of so many balances, and the first refusal.
    """
    return {(budget, each): balances for each in (*AT, "refused")}


def work(name, role, model, tokens):
    """
    Answer customers until a budget refuses: which one, and after how many answers.
    """
    calls = 0
    with scope(agent=name, role=role):
        while True:
            try:
                bedrock.converse(
                    modelId=model,
                    messages=[{"role": "user", "content": [{"text": "May I have a loan?"}]}],
                    inferenceConfig={"maxTokens": tokens},
                )
            except BudgetExceeded as refusal:
                return refusal.budget, calls
            calls += 1


with (
    BedrockServer(rates=RATES, output_tokens=50_000) as server,
    Guard(
        budgets=BUDGETS, ledger="memory://", prices=PRICES, clock=lambda: now, sinks=[alerts.append]
    ) as my_guard,
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

    # May: 24,900 tokens an answer, of $20 a million. Two answers for each agent, eight for each supervisor.
    may = Counter(work(*person, CHEAP, 24_900) for person in AGENTS + SUPERVISORS)
    assert may == {("agent tokens", 2): 100, ("supervisor tokens", 8): 10}
    rows = my_guard.status()
    assert rows[0].spent == server.bill.usd
    assert all(49_800 < row.spent <= 50_000 for row in rows if row.budget == "agent tokens")
    assert all(199_200 < row.spent <= 200_000 for row in rows if row.budget == "supervisor tokens")
    assert rows[0].spent == Decimal("139.468")  # 280 answers of 24,900 tokens, and 5 of input
    print(f"May: ${rows[0].spent} of ${rows[0].limit}; everybody was stopped by tokens")

    # Nobody came to half of their money, nor all of them to half of $500.
    assert told() == all_of("agent tokens", 100) | all_of("supervisor tokens", 10)

    # June begins afresh: 9,900 tokens an answer, of $200 a million: $1.98 and some input.
    now = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
    in_may = server.bill.usd
    june = Counter(work(*person, DEAR, 9_900) for person in AGENTS)
    assert june == {("agent money", 2): 100}
    after = Counter(work(*person, DEAR, 9_900) for person in SUPERVISORS)
    assert after[("supervisor money", 8)] == 6
    assert after[("all", 0)] == 3
    assert sum(after.values()) == 10
    rows = my_guard.status()
    assert rows[0].spent == server.bill.usd - in_may
    assert rows[0].spent == Decimal("499.212")  # 252 answers of $1.981; another would not fit
    assert all(row.spent <= row.limit and row.pending == 0 for row in rows)
    # Six supervisors came to their limits, and a seventh to $7.92 before $500 were spent: not half of $16.
    assert told() == all_of("agent money", 100) | all_of("supervisor money", 6) | all_of("all", 1)
    print(f"June: ${rows[0].spent} of ${rows[0].limit}; agents were stopped at $4, and then all at $500")
