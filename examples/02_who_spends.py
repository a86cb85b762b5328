"""
One balance for each user, tags from the block that runs, and a bill by user at the end.
"""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import boto3

from bedrock_guard import Budget, BudgetExceeded, Guard, bind, scope
from bedrock_guard.testing.bedrock_server import BedrockServer


def ask(client, words):
    return client.converse(
        modelId="us.amazon.nova-lite-v1:0",
        messages=[{"role": "user", "content": [{"text": "word " * words}]}],
        inferenceConfig={"maxTokens": 500},
    )


with (
    BedrockServer() as server,
    Guard(
        budgets=["all: 1 USD/day", Budget("user", "0.0008 USD/day", per="user")], ledger="memory://"
    ) as my_guard,
):
    bedrock = my_guard.attach(
        boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=server.url,
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
    )

    refused = set()
    with ThreadPoolExecutor(4) as pool:
        for user, words in (("ann", 10), ("bob", 2_000), ("ann", 20), ("bob", 2_000)):
            with scope(user=user):
                # A pool drops the tags of the code that submits to it; bind() carries them along.
                future = pool.submit(bind(ask), bedrock, words)
            try:
                future.result()
            except BudgetExceeded as refusal:
                refused.add(user)
                print(refusal.public_message)

    bill = defaultdict(Decimal)
    for entry in my_guard.entries(outcome="answered"):
        bill[entry.tags["user"]] += entry.cost
    for user, spent in sorted(bill.items()):
        print(f"{user}: ${spent}")
    assert refused == {"bob"}
    assert sum(bill.values()) == my_guard.status()[0].spent
