"""
A program that knows nothing of budgets, for `bedrock-guard run` to limit: it asks until somebody stops it.

    bedrock-guard run --budget "0.02 USD" -- python examples/agent.py
"""

import boto3

# Stands for AWS, on this machine; without `endpoint_url` it would be AWS.
from bedrock_guard.testing.bedrock_server import BedrockServer

HELLO = {
    "modelId": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "messages": [{"role": "user", "content": [{"text": "Say hello."}]}],
    "inferenceConfig": {"maxTokens": 200},
}

with BedrockServer() as server:
    bedrock = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )
    for _ in range(1_000):
        bedrock.converse(**HELLO)
