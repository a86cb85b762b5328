"""
A budget round one client: calls until the limit, then a refusal that says what would fit.

Runs against a Bedrock on this machine; without `endpoint_url` it would be AWS.
"""

from bedrock_guard import BudgetExceeded, Guard, guarded_client
from bedrock_guard.testing.bedrock_server import BedrockServer

HELLO = {
    "modelId": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "messages": [{"role": "user", "content": [{"text": "Say hello."}]}],
    "inferenceConfig": {"maxTokens": 200},
}

with BedrockServer() as server:
    bedrock = guarded_client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        budget="0.02 USD/day",
        ledger="memory://",
    )

    calls = 0
    try:
        while True:
            bedrock.converse(**HELLO)
            calls += 1
    except BudgetExceeded as refusal:
        print(refusal)

    (status,) = Guard.of(bedrock).status()
    print(f"{calls} calls, ${status.spent} of ${status.limit}")
    assert calls == 5
    assert server.bill.requests == calls
    assert status.pending == 0
