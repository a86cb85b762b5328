"""
A Haystack pipeline, sync and async: its components make clients of their own, so the process is guarded.

Runs against a Bedrock on this machine; without the endpoint in the environment it would be AWS.
"""

import asyncio
import os

from haystack import Pipeline
from haystack.dataclasses import ChatMessage
from haystack_integrations.components.generators.amazon_bedrock import AmazonBedrockChatGenerator

from bedrock_guard import BudgetExceeded, guard_process
from bedrock_guard.testing.bedrock_server import BedrockServer

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
RATES = {MODEL: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"}}
HELLO = [ChatMessage.from_user("Say hello.")]

my_guard = guard_process(budget="0.02 USD/day", ledger="memory://")

with BedrockServer(RATES) as server:
    os.environ["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] = server.url
    os.environ.update(AWS_ACCESS_KEY_ID="any", AWS_SECRET_ACCESS_KEY="any", AWS_DEFAULT_REGION="us-east-1")
    generator = AmazonBedrockChatGenerator(model=MODEL, generation_kwargs={"maxTokens": 300})

    asyncio.run(generator.run_async(HELLO))

    pipeline = Pipeline()
    pipeline.add_component("llm", generator)
    try:
        while True:
            pipeline.run({"llm": {"messages": HELLO}})
    except Exception as error:  # PipelineRuntimeError
        refusal = BudgetExceeded.find(error)
        if refusal is None:
            raise
        print(refusal)

    (status,) = my_guard.status()
    print(f"{server.bill.requests} calls, ${status.spent} of ${status.limit}")
    assert server.bill.requests > 1
    assert status.spent == server.bill.usd
    assert status.pending == 0
