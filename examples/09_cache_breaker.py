"""
A breaker for the prompt cache: the incident of the lost cache points ends after a million tokens, near $6.

A budget stops the bill at its limit. A breaker looks at what the tokens are: where less than half of a
million were read from a cache, the agent's calls are stopped in every process, and the refusal says why.
"""

from decimal import Decimal

from bedrock_guard import Guard, scope
from bedrock_guard.cli.incident import MODEL_ID, lose_cache_points, rates
from bedrock_guard.domain.breaker import Breaker
from bedrock_guard.errors import Stopped
from bedrock_guard.testing.bedrock_server import BedrockServer

CONTEXT = "x = 1\n" * 100_000  # 150,000 tokens, as the loopback server counts; an agent's code base
TURN = {
    "modelId": MODEL_ID,
    "system": [{"text": "You are a coding agent."}, {"cachePoint": {"type": "default"}}],
    "messages": [{"role": "user", "content": [{"text": CONTEXT}, {"cachePoint": {"type": "default"}}]}],
    "inferenceConfig": {"maxTokens": 200},
}
CACHE = Breaker("cache", "cache_hit >= 0.5 after 1M total_input_tokens", per="agent")
alerts = []


def work(agent, turns):
    """
    So many turns, or until somebody stops them: how many, and why they ended.
    """
    with scope(agent=agent):
        for turn in range(turns):
            try:
                bedrock.converse(**TURN)
            except Stopped as stop:
                return turn, stop
    return turns, None


with (
    BedrockServer(rates=rates(), output_tokens=200) as server,
    Guard(
        budget="agents: 50M uncached_input_tokens/day",
        breakers=[CACHE],
        ledger="memory://",
        sinks=[alerts.append],
    ) as my_guard,
):
    server.keep_requests = 0
    bedrock = my_guard.client(
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )

    # With the cache: each million is judged, and kept.
    assert work("coder", 20) == (20, None)
    healthy = server.bill.usd
    print(f"twenty turns with the cache: ${healthy:.2f}")
    assert Decimal("2.6") < healthy < Decimal("2.8")

    # Two such judgements were made after 7 turns each, so 6 of the next 7 turns are healthy ones. They hide
    # the loss for one turn, and no longer: the next seven stand for themselves.
    lose_cache_points(bedrock)
    turns, stop = work("coder", 1000)
    print(f"{turns} turns without it, and then: {stop}")
    assert turns == 8
    assert "prompt caching does nothing: 0.0 % of 1.05M input tokens were read from a cache" in stop.reason
    assert stop.by == "breaker:cache"
    lost = server.bill.usd - healthy
    assert Decimal("6.6") < lost < Decimal("6.7")  # 8 x 150,000 tokens at $5.50 a million, and output

    # An agent that never had a cache ends with its first million; a stop is that of one agent.
    before = server.bill.usd
    turns, stop = work("reviewer", 1000)
    assert turns == 7
    assert Decimal("5.7") < server.bill.usd - before < Decimal("5.9")
    print(f"without it from the first: {turns} turns, ${server.bill.usd - before:.2f}")

    # Who resumes is judged afresh, and not by what was judged before.
    my_guard.resume(stop.id)
    assert work("reviewer", 1000)[0] == 7

    # Each trip is told once, beside the calls.
    my_guard.flush()
    assert [(alert.kind, dict(alert.per)["agent"]) for alert in alerts] == [
        ("breaker", "coder"),
        ("breaker", "reviewer"),
        ("breaker", "reviewer"),
    ]
    assert sum(entry.cost or 0 for entry in my_guard.entries()) == server.bill.usd
    print(f"in all ${server.bill.usd:.2f}; the budget would have let $275 pass that day")
