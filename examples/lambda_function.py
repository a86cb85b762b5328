"""
A Lambda function behind an HTTP API: a budget for each team and user, and a 429 when one is spent.

`05_lambda_handler.py` runs it on this machine. In AWS its environment names the table:

    BEDROCK_GUARD_LEDGER=dynamodb://my-budgets
    POWERTOOLS_SERVICE_NAME=chat
    POWERTOOLS_METRICS_NAMESPACE=Chat
"""

import json
from math import ceil

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response, content_types
from aws_lambda_powertools.metrics import MetricUnit

from bedrock_guard import Budget, BudgetExceeded, Guard, scope

MODEL = "us.anthropic.claude-haiku-4-5-20251001-v1:0"

logger, metrics, app = Logger(), Metrics(), APIGatewayHttpResolver()

# Here, not in the handler: while an environment starts, the ledger's connection is made, once.
my_guard = Guard(
    budgets=[Budget("chat-team", "20 USD/day", per="team"), Budget("chat-user", "0.03 USD/day", per="user")]
)
bedrock = my_guard.client("bedrock-runtime")


@app.post("/ask")
def ask():
    who = app.current_event.request_context.authorizer.get_lambda
    with scope(user=who["user"], team=who["team"]) as tally:
        reply = bedrock.converse(
            modelId=MODEL,
            messages=[{"role": "user", "content": [{"text": app.current_event.json_body["question"]}]}],
            inferenceConfig={"maxTokens": 1_000},
        )
    metrics.add_metric(name="CostUSD", unit=MetricUnit.Count, value=float(tally.cost))
    return {"answer": reply["output"]["message"]["content"][0]["text"]}


@app.exception_handler(BudgetExceeded)
def refuse(refusal):
    metrics.add_metric(name="Refused", unit=MetricUnit.Count, value=1)
    # Whose it was, and the figures, are for the log; the caller gets neither.
    logger.warning("refused", budget=refusal.budget, spent_usd=str(refusal.spent), tags=dict(refusal.tags))
    wait = refusal.retry_after_s
    return Response(
        status_code=429,
        content_type=content_types.APPLICATION_JSON,
        body=json.dumps({"message": refusal.public_message}),
        headers={} if wait is None else {"Retry-After": str(ceil(wait))},
    )


@my_guard.lambda_handler
@logger.inject_lambda_context
@metrics.log_metrics(capture_cold_start_metric=True)
def lambda_handler(event, context):
    return app.resolve(event, context)
