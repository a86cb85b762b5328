"""
A LlamaIndex agent, whose threads are told whom they work for.

Without aioboto3 it reads streams in threads, which see no `scope()` of the code that awaits them.
Runs against a Bedrock on this machine; without `endpoint_url` it would be AWS.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.llms.bedrock_converse import BedrockConverse

from bedrock_guard import BudgetExceeded, Guard, bind, scope
from bedrock_guard.testing.bedrock_server import BedrockServer, tool_call

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
RATES = {MODEL: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"}}
LOCAL = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}


class BoundExecutor(ThreadPoolExecutor):
    def submit(self, fn, /, *args, **kwargs):
        return super().submit(bind(fn), *args, **kwargs)


def weather(city: str) -> str:
    """
    The weather of a city.
    """
    return f"It is sunny in {city}."


async def ask(guard, url):
    asyncio.get_running_loop().set_default_executor(BoundExecutor())
    own = {"region_name": "us-east-1", "endpoint_url": url, **LOCAL}
    clients = {"client": guard.client("bedrock-runtime", **own)}
    try:
        import aioboto3  # noqa: PLC0415
    except ImportError:
        return await run(clients)
    async with aioboto3.Session().client("bedrock-runtime", **own) as client:
        return await run({**clients, "async_client": guard.attach(client)})


async def run(clients):
    llm = BedrockConverse(model=MODEL, max_tokens=300, region_name="us-east-1", **clients)
    with scope(user="ann") as tally:
        try:
            agent = FunctionAgent(tools=[weather], llm=llm)
            await agent.run(user_msg="The weather in Bern?", max_iterations=1000)
        except BudgetExceeded as refusal:
            print(refusal)
    return tally


with BedrockServer(RATES) as server, Guard(budget="0.05 USD/day", ledger="memory://") as my_guard:
    server.always(tool_call("weather", city="Bern"))

    tally = asyncio.run(ask(my_guard, server.url))

    (status,) = my_guard.status()
    print(f"{tally.calls} calls of ann's, ${status.spent} of ${status.limit}")
    assert tally.calls == server.bill.requests > 1
    assert status.spent == server.bill.usd
    assert status.pending == 0
