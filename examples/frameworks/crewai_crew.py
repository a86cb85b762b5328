"""
A crew of CrewAI, whose client is its own, so the process is guarded: kicked off until the budget ends it.

Runs against a Bedrock on this machine; without the endpoint in the environment it would be AWS.
"""

import os

from crewai import LLM, Agent, Crew, Task

from bedrock_guard import BudgetExceeded, guard_process
from bedrock_guard.testing.bedrock_server import BedrockServer

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
RATES = {MODEL: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"}}

my_guard = guard_process(budget="0.02 USD/day", ledger="memory://")

with BedrockServer(RATES) as server:
    os.environ["AWS_ENDPOINT_URL_BEDROCK_RUNTIME"] = server.url
    os.environ.update(AWS_ACCESS_KEY_ID="any", AWS_SECRET_ACCESS_KEY="any", AWS_DEFAULT_REGION="us-east-1")
    llm = LLM(model=f"bedrock/{MODEL}", max_tokens=300)
    agent = Agent(role="host", goal="greet", backstory="friendly", llm=llm)
    crew = Crew(agents=[agent], tasks=[Task(description="Say hello.", expected_output="a word", agent=agent)])

    try:
        while True:
            crew.kickoff()
    except RuntimeError as error:
        refusal = BudgetExceeded.find(error)
        if refusal is None:
            raise
        print(refusal)

    (status,) = my_guard.status()
    print(f"{server.bill.requests} calls, ${status.spent} of ${status.limit}")
    assert server.bill.requests > 1
    assert status.spent == server.bill.usd
    assert status.pending == 0
