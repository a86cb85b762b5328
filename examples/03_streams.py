"""
Streams: the estimate is held while one is read, and what AWS reports is charged at its end.

One that is left early is charged at its estimate, because AWS bills the whole generation.
"""

from bedrock_guard import Guard
from bedrock_guard.testing.bedrock_server import BedrockServer

HELLO = {
    "modelId": "us.anthropic.claude-haiku-4-5-20251001-v1:0",
    "messages": [{"role": "user", "content": [{"text": "Count to a hundred."}]}],
    "inferenceConfig": {"maxTokens": 1_000},
}

with BedrockServer() as server, Guard(budget="1 USD/day", ledger="memory://") as my_guard:
    bedrock = my_guard.client(
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )

    stream = bedrock.converse_stream(**HELLO)["stream"]
    held = my_guard.status()[0].pending
    for _event in stream:
        pass
    whole = next(my_guard.entries())
    print(f"read to its end: held ${held}, cost ${whole.cost} ({whole.basis})")

    stream = bedrock.converse_stream(**HELLO)["stream"]
    for _event in stream:
        break
    stream.close()
    left = next(my_guard.entries())
    print(f"left early:      held ${held}, cost ${left.cost} ({left.basis})")

    assert (whole.basis, left.basis) == ("reported", "estimated")
    assert left.cost == left.estimated_cost == held
