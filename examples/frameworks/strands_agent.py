"""
A Strands agent in a session whose clients are guarded; the refusal is inside what its loop raises.

Runs against a Bedrock on this machine; without `endpoint_url` it would be AWS.
"""

import boto3
from strands import Agent, tool
from strands.models import BedrockModel

from bedrock_guard import BudgetExceeded, Guard, guarded_session
from bedrock_guard.testing.bedrock_server import BedrockServer, tool_call

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
RATES = {MODEL: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"}}
LOCAL = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}


@tool
def weather(city: str) -> str:
    """
    The weather of a city.
    """
    return f"It is sunny in {city}."


with BedrockServer(RATES) as server, Guard(budget="0.05 USD/day", ledger="memory://") as my_guard:
    server.always(tool_call("weather", city="Bern"))
    session = guarded_session(boto3.Session(**LOCAL), guard=my_guard)

    model = BedrockModel(boto_session=session, endpoint_url=server.url, model_id=MODEL, max_tokens=300)
    try:
        Agent(model, tools=[weather], callback_handler=None)("The weather in Bern?")
    except Exception as error:  # EventLoopException after the first cycle
        refusal = BudgetExceeded.find(error)
        if refusal is None:
            raise
        print(refusal)

    (status,) = my_guard.status()
    print(f"{server.bill.requests} calls, ${status.spent} of ${status.limit}")
    assert server.bill.requests > 1
    assert status.spent == server.bill.usd
    assert status.pending == 0
