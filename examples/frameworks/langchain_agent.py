"""
A LangChain agent that never comes to an end, and its budget, which ends it.

Runs against a Bedrock on this machine; without `endpoint_url` it would be AWS.
"""

from langchain.agents import create_agent
from langchain_aws import ChatBedrockConverse

from bedrock_guard import BudgetExceeded, Guard, scope
from bedrock_guard.testing.bedrock_server import BedrockServer, tool_call

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
RATES = {MODEL: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"}}
LOCAL = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}


def weather(city: str) -> str:
    """
    The weather of a city.
    """
    return f"It is sunny in {city}."


with BedrockServer(RATES) as server, Guard(budget="0.05 USD/day", ledger="memory://") as my_guard:
    server.always(tool_call("weather", city="Bern"))
    client = my_guard.client("bedrock-runtime", region_name="us-east-1", endpoint_url=server.url, **LOCAL)

    agent = create_agent(ChatBedrockConverse(model=MODEL, client=client, max_tokens=300), [weather])
    with scope(user="ann") as tally:
        try:
            agent.invoke({"messages": [("user", "The weather in Bern?")]}, {"recursion_limit": 1000})
        except BudgetExceeded as refusal:
            print(refusal)

    (status,) = my_guard.status()
    print(f"{tally.calls} calls of ann's, ${status.spent} of ${status.limit}")
    assert tally.calls == server.bill.requests > 1
    assert status.spent == server.bill.usd
    assert status.pending == 0
