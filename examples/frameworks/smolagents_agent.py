"""
A smolagents agent that writes code for ever, and its budget, which ends it.

Runs against a Bedrock on this machine; without `endpoint_url` it would be AWS.
"""

from smolagents import AmazonBedrockModel, CodeAgent

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.testing.bedrock_server import BedrockServer, converse_reply

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
RATES = {MODEL: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"}}
LOCAL = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}


def no_tool_calls(parsed, **_):
    # smolagents 1.26 reads a key that boto3's replies do not have.
    parsed.get("output", {}).get("message", {}).setdefault("tool_calls", None)


with BedrockServer(RATES) as server, Guard(budget="0.05 USD/day", ledger="memory://") as my_guard:
    server.always(
        converse_reply(input_tokens=2_000, output_tokens=9, text="So.\n<code>\nprint('hi')\n</code>")
    )
    client = my_guard.client("bedrock-runtime", region_name="us-east-1", endpoint_url=server.url, **LOCAL)
    client.meta.events.register("after-call.bedrock-runtime.Converse", no_tool_calls)

    model = AmazonBedrockModel(MODEL, client=client, inferenceConfig={"maxTokens": 300})
    try:
        CodeAgent([], model, max_steps=1000, verbosity_level=0).run("Say hi.")
    except Exception as error:  # AgentGenerationError
        refusal = BudgetExceeded.find(error)
        if refusal is None:
            raise
        print(refusal)

    (status,) = my_guard.status()
    print(f"{server.bill.requests} calls, ${status.spent} of ${status.limit}")
    assert server.bill.requests > 1
    assert status.spent == server.bill.usd
    assert status.pending == 0
