"""
A bank's chatbot: 100 agents with 50,000 tokens and $4 a month each, 10 supervisors with four times that,
and $500 for all of them together.

In May they use a cheap model, and tokens end first; in June a dear one, and money does. Of each balance
somebody is told at 50, 80, 90 and 100 %, and of its first refusal.
"""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import boto3

from bedrock_guard import Budget, BudgetExceeded, Guard, scope
from bedrock_guard.testing.bedrock_server import BedrockServer

CHEAP, DEAR = "us.anthropic.claude-sonnet-4-6", "us.anthropic.claude-opus-4-6-v1"
SHARES = (0.5, 0.8, 0.9, 1.0)
# Who does not say what they are is no supervisor.
AGENT = {"per": "agent", "match": {"role": "!supervisor"}, "alerts": SHARES}
SUPERVISOR = {"per": "agent", "match": {"role": "supervisor"}, "alerts": SHARES}
BUDGETS = [
    Budget("all", "500 USD/month", alerts=SHARES),
    Budget("agent money", "4 USD/month", **AGENT),
    Budget("agent tokens", "50_000 tokens/month", **AGENT),
    Budget("supervisor money", "16 USD/month", **SUPERVISOR),
    Budget("supervisor tokens", "200_000 tokens/month", **SUPERVISOR),
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
told = []


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


def take_told():
    """
    What somebody was told since the last time: of which budgets, at which shares, how often.
    """
    assert my_guard.flush(60)
    counted = Counter((alert.budget, alert.threshold or alert.kind) for alert in told)
    told.clear()
    return counted


def all_shares_of(**balances):
    """
    Every share, and one refusal, of so many balances of each budget.
    """
    return {
        (name.replace("_", " "), what): number
        for name, number in balances.items()
        for what in (*SHARES, "refused")
    }


with (
    BedrockServer(rates=RATES, output_tokens=50_000) as server,
    Guard(
        budgets=BUDGETS, ledger="memory://", prices=PRICES, clock=lambda: now, sinks=[told.append]
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
    assert take_told() == all_shares_of(agent_tokens=100, supervisor_tokens=10)
    print(f"May: ${rows[0].spent} of ${rows[0].limit}; everybody was stopped by tokens")

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
    assert take_told() == all_shares_of(agent_money=100, supervisor_money=6, all=1)
    print(f"June: ${rows[0].spent} of ${rows[0].limit}; agents were stopped at $4, and then all at $500")
