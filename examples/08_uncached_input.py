"""
A limit on uncached input: the incident of the lost cache points stops near $275 a day.

While the cache works, the agent's context is read from it, and does not count. When the marks are
lost on the way, every turn is uncached input, at ten times the price, and 50 million are soon gone.
"""

from decimal import Decimal

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.cli.incident import MODEL_ID, lose_cache_points, rates
from bedrock_guard.testing.bedrock_server import BedrockServer

CONTEXT = "x = 1\n" * 100_000  # 150,000 tokens, as the loopback server counts; an agent's code base
TURN = {
    "modelId": MODEL_ID,
    "system": [{"text": "You are a coding agent."}, {"cachePoint": {"type": "default"}}],
    "messages": [{"role": "user", "content": [{"text": CONTEXT}, {"cachePoint": {"type": "default"}}]}],
    "inferenceConfig": {"maxTokens": 200},
}

with (
    BedrockServer(rates=rates(), output_tokens=200) as server,
    Guard(budget="agent: 50M uncached_input_tokens/day", ledger="memory://") as my_guard,
):
    server.keep_requests = 0
    bedrock = my_guard.client(
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )

    for _ in range(10):
        bedrock.converse(**TURN)
    healthy = my_guard.status()[0]
    print(f"ten turns with the cache:    {healthy.spent:,} tokens uncached, ${server.bill.usd:.2f}")

    lose_cache_points(bedrock)
    turns = 0
    try:
        while True:
            bedrock.converse(**TURN)
            turns += 1
    except BudgetExceeded as refusal:
        print(f"{turns} turns without it, and then: {refusal}")

    stopped = my_guard.status()[0]
    assert healthy.spent < 1_000
    # 50 million at 5.50 USD a million are 275 USD; the last call did not fit, and output comes on top.
    input_cost = stopped.spent * Decimal("5.50") / 1_000_000
    assert Decimal(270) < input_cost <= Decimal(275)
    assert Decimal(270) < server.bill.usd < Decimal(280)
    assert sum(entry.cost or 0 for entry in my_guard.entries()) == server.bill.usd
