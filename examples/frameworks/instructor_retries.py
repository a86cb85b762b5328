"""
instructor asks again until an answer validates, and each time costs; the budget ends what would never end.

Runs against a Bedrock on this machine; without `endpoint_url` it would be AWS.
"""

import instructor
from instructor.core import InstructorRetryException
from pydantic import BaseModel

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.testing.bedrock_server import BedrockServer, tool_call

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
RATES = {MODEL: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"}}
LOCAL = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}


class City(BaseModel):
    name: str
    people: int


with BedrockServer(RATES) as server, Guard(budget="0.05 USD/day", ledger="memory://") as my_guard:
    server.always(tool_call("City", name="Bern"))  # never says how many people
    client = my_guard.client("bedrock-runtime", region_name="us-east-1", endpoint_url=server.url, **LOCAL)

    try:
        instructor.from_bedrock(client).chat.completions.create(
            modelId=MODEL,
            messages=[{"role": "user", "content": [{"text": "How many people live in Bern?"}]}],
            inferenceConfig={"maxTokens": 300},
            response_model=City,
            max_retries=1000,
        )
    except InstructorRetryException as error:
        refusal = BudgetExceeded.find(error)
        if refusal is None:
            raise
        print(refusal)

    (status,) = my_guard.status()
    print(f"{server.bill.requests} calls, ${status.spent} of ${status.limit}")
    assert server.bill.requests > 1
    assert status.spent == server.bill.usd
    assert status.pending == 0
