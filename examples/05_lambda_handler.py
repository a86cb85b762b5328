"""
A Lambda function on this machine: `lambda_function.py`, with events as an HTTP API sends them.

Needs aws-lambda-powertools. In AWS the ledger would be a table, `dynamodb://my-budgets`.
"""

import copy
import json
import os
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from bedrock_guard.testing.bedrock_server import BedrockServer

EVENT = json.loads(Path(__file__).with_name("http_api_event.json").read_text())


@dataclass
class Context:
    """
    As Lambda makes it for an invocation that may take 29 s; an HTTP API waits for 30.
    """

    function_name: str = "chat"
    memory_limit_in_mb: int = 512
    invoked_function_arn: str = "arn:aws:lambda:us-east-1:111122223333:function:chat"
    aws_request_id: str = "3f4c1e0a-6f5e-4c57-9a53-2d1c0f5e7b11"
    ends_at: float = field(default_factory=lambda: time.time() + 29)

    def get_remaining_time_in_millis(self):
        return max(0, int(1000 * (self.ends_at - time.time())))


def invoke(function, user, team="search"):
    event = copy.deepcopy(EVENT)
    event["requestContext"]["authorizer"]["lambda"] = {"user": user, "team": team}
    return function.lambda_handler(event, Context())


def environment(bedrock_url, ledger):
    return {
        "AWS_LAMBDA_FUNCTION_NAME": "chat",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": bedrock_url,
        "BEDROCK_GUARD_LEDGER": ledger,
        "POWERTOOLS_SERVICE_NAME": "chat",
        "POWERTOOLS_METRICS_NAMESPACE": "Chat",
    }


if __name__ == "__main__":
    with BedrockServer() as server:
        os.environ.update(environment(server.url, "memory://"))
        function = import_module("lambda_function")

        answered = 0
        while (reply := invoke(function, "ann"))["statusCode"] == 200:
            answered += 1
        print(reply)
        assert reply["statusCode"] == 429
        assert answered == server.bill.requests > 0
        assert invoke(function, "bob")["statusCode"] == 200  # whose own budget is untouched
        function.my_guard.close()
