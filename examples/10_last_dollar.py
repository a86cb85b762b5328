"""
The last dollar of a budget, with worst cases held and with the steps that come before a refusal.

Every call asks for 64,000 tokens and gets a thousand, as frameworks do that always set the most.
"""

from decimal import Decimal

from bedrock_guard import Budget, BudgetExceeded, Guard
from bedrock_guard.testing.bedrock_server import BedrockServer

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
RATES = {SONNET: {"input_tokens": "0.0000033", "output_tokens": "0.0000165"}}
CALL = {
    "modelId": SONNET,
    "messages": [{"role": "user", "content": [{"text": "word " * 2_000}]}],
    "inferenceConfig": {"maxTokens": 64_000},
}


def spend(**steps: str) -> tuple[Decimal, int]:
    """
    Call until the budget of two dollars refuses; what was spent, and how many answers were cut short.
    """
    with (
        BedrockServer(rates=RATES, output_tokens=1_000) as server,
        Guard(budgets=[Budget("search", "2 USD", wait_s=10)], ledger="memory://", **steps) as my_guard,
    ):
        bedrock = my_guard.client(
            region_name="us-east-1",
            endpoint_url=server.url,
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )
        cut = 0
        try:
            while True:
                reply = bedrock.converse(**CALL)
                cut += reply["stopReason"] == "max_tokens"
        except BudgetExceeded as refusal:
            print(f"spent ${server.bill.usd:.4f} of $2, {cut} answers cut short, and then: {refusal}\n")
        return server.bill.usd, cut


held, _ = spend(clamp="never")
clamped, _ = spend(clamp="always")
counted, cut = spend(clamp="always", refine="count_tokens")

# A worst case is 1.09 USD: with less than that left, nothing more was sent.
assert held < 1
# 256 tokens of output, the least that a call is lowered to, and an input of 2,500 are 0.0125 USD.
assert held < clamped <= counted <= 2
assert 2 - counted < Decimal("0.0125")
# Of some eighty.
assert cut < 10
