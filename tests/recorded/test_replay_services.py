"""
Recorded exchanges of guardrails by themselves, and of an agent: each settles at what AWS reported.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore_versions import needs_newer_model

from bedrock_guard import Guard
from bedrock_guard.testing.bedrock_server import BedrockServer, raw

from .recordings import FOLDER, is_missing

GUARDRAILS = sorted((FOLDER / "ApplyGuardrail").rglob("*.json"))
AGENTS = sorted((FOLDER / "agent-agents").rglob("*.json"))

pytestmark = [is_missing, needs_newer_model]


def replay(path: Path, service: str, **settings: Any) -> tuple[Any, BedrockServer, Guard, dict[str, Any]]:
    recorded = json.loads(path.read_text())
    response = recorded["response"]
    body = (
        base64.b64decode(response["body_base64"]) if "body_base64" in response else response["body"].encode()
    )
    headers = {name.lower(): value for name, value in response["headers"]}
    headers = {name: headers[name] for name in headers if name not in ("content-length", "transfer-encoding")}
    server = BedrockServer().start()
    server.always(raw(response["status"], headers, body))
    guard = Guard(budgets=[], ledger="memory://", **settings)
    client = guard.client(
        service,
        region_name="us-east-1",
        endpoint_url=server.url,
        config=Config(retries={"total_max_attempts": 1}),
    )
    return client, server, guard, json.loads(recorded["request"]["body"])


@pytest.mark.parametrize("path", GUARDRAILS, ids=lambda path: path.stem)
def test_a_guardrail_settles_at_the_units_that_aws_reported(path: Path) -> None:
    """
    Eight counters, of which the free ones cost nothing and are kept.
    """
    client, server, guard, asked = replay(path, "bedrock-runtime")
    reply = client.apply_guardrail(guardrailIdentifier="g", guardrailVersion="1", **asked)
    server.stop()

    (entry,) = guard.entries()
    stated = {name: count for name, count in reply["usage"].items() if count and name.endswith("Units")}
    assert sum(entry.usage.values()) == sum(stated.values()) > 0
    assert (entry.outcome, entry.basis) == ("answered", "reported")
    assert 0 < entry.cost <= entry.estimated_cost


@pytest.mark.parametrize("path", AGENTS, ids=lambda path: path.stem)
def test_an_agent_settles_at_the_model_calls_that_its_trace_told(path: Path) -> None:
    """
    Four calls of one model, of 862, 1,039, 1,155 and 1,288 tokens in, and 161, 97, 114 and 270 out.
    """
    client, server, guard, asked = replay(
        path, "bedrock-agent-runtime", flat_prices={"bedrock-agent-runtime:InvokeAgent": "0.50 USD"}
    )
    reply = client.invoke_agent(agentId="A1", agentAliasId="ALIAS", sessionId="s1", **asked)
    list(reply["completion"])
    server.stop()

    (entry,) = guard.entries()
    assert entry.usage == {"input_tokens": 4_344, "output_tokens": 642}
    assert (entry.outcome, entry.basis) == ("answered", "reported")
