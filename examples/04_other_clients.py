"""
A hold round requests that boto3 does not send: here `http.client`, elsewhere httpx, LiteLLM or an SDK.

The client sends, and says how each request ended; what nobody says is charged at its estimate.
"""

import json
from http.client import HTTPConnection
from urllib.parse import urlsplit

from bedrock_guard import BudgetExceeded, Guard
from bedrock_guard.testing.bedrock_server import BedrockServer

MODEL = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
HELLO = {
    "messages": [{"role": "user", "content": [{"text": "Say hello."}]}],
    "inferenceConfig": {"maxTokens": 200},
}


def ask(guard, url):
    with guard.hold("Converse", {"modelId": MODEL, **HELLO}, region="us-east-1") as hold:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=60)
        # For AWS it would be signed; the loopback server asks for no signature.
        connection.request("POST", f"/model/{MODEL}/converse", json.dumps(HELLO))
        reply = connection.getresponse()
        if reply.status != 200:
            return hold.rejected(reply.status)
        return hold.settle(reply.read(), headers=reply.headers)


with BedrockServer() as server, Guard(budget="0.005 USD/day", ledger="memory://") as my_guard:
    server.will_answer(429)
    print("throttled:", ask(my_guard, server.url).cost)

    calls = 0
    try:
        while True:
            print("answered: ", ask(my_guard, server.url).cost)
            calls += 1
    except BudgetExceeded as refusal:
        print(refusal)

    (status,) = my_guard.status()
    print(f"{calls} calls, ${status.spent} of ${status.limit}")
    assert calls == server.bill.requests > 0
    assert status.pending == 0
