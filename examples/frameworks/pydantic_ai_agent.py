"""
A pydantic-ai agent, run and streamed, with a budget for each of its users.

Runs against a Bedrock on this machine; without `endpoint_url` it would be AWS.
"""

import asyncio

from pydantic_ai import Agent
from pydantic_ai.models.bedrock import BedrockConverseModel
from pydantic_ai.providers.bedrock import BedrockProvider

from bedrock_guard import Budget, BudgetExceeded, Guard, scope
from bedrock_guard.testing.bedrock_server import BedrockServer

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
RATES = {MODEL: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"}}
LOCAL = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}


async def chat(agent, user):
    calls = 0
    with scope(user=user):
        try:
            while True:
                async with agent.run_stream("Say hello.") as run:
                    async for _ in run.stream_text(delta=True):
                        pass
                calls += 1
        except BudgetExceeded as refusal:
            print(refusal)
    return calls


per_user = Budget("user", "0.02 USD/day", per="user")
with BedrockServer(RATES) as server, Guard(budgets=[per_user], ledger="memory://") as my_guard:
    client = my_guard.client("bedrock-runtime", region_name="us-east-1", endpoint_url=server.url, **LOCAL)
    model = BedrockConverseModel(MODEL, provider=BedrockProvider(bedrock_client=client))
    agent = Agent(model, model_settings={"max_tokens": 300})

    calls = [asyncio.run(chat(agent, user)) for user in ("ann", "bob")]

    for status in my_guard.status():
        print(f"{status.per[0][1]}: ${status.spent} of ${status.limit}")
        assert status.pending == 0
    assert calls[0] == calls[1] > 1
    assert sum(status.spent for status in my_guard.status()) == server.bill.usd
