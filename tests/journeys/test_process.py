"""
`guard_process()`, in a process of its own: it covers every session made later.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from bedrock_guard.testing.bedrock_server import BedrockServer


def run(code: str, server: BedrockServer, *packages: str) -> dict[str, object]:
    program = f"URL = {server.url!r}\n" + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout.splitlines()[-1]), "stderr": done.stderr}


def test_clients_that_a_framework_makes_are_guarded(server: BedrockServer) -> None:
    """
    Haystack and CrewAI make sessions and clients of their own, deep inside.
    """
    said = run(
        """
        import json, logging, boto3, botocore.session
        from bedrock_guard import BudgetExceeded, guard_process
        logging.basicConfig(level="WARNING")
        guard_process(budget="0 USD", ledger="memory://")
        makers = [boto3.client, boto3.Session().client, botocore.session.get_session().create_client]
        refused = 0
        for make in makers:
            client = make("bedrock-runtime", region_name="us-east-1", endpoint_url=URL)
            try:
                client.converse(modelId="amazon.nova-lite-v1:0", messages=[{"role": "user", "content": [{"text": "hi"}]}])
            except BudgetExceeded:
                refused += 1
        print(json.dumps({"refused": refused}))
        """,
        server,
    )

    assert said["refused"] == 3
    told = said["stderr"].splitlines()
    assert [line.split(" (")[0] for line in told] == ["WARNING:bedrock_guard.alerts:default"] * 2
    assert server.requests == ()


def test_a_default_session_that_was_there_before_is_covered_and_told_of(server: BedrockServer) -> None:
    """
    Its earlier clients are not guarded, and that must be said once.
    """
    said = run(
        """
        import json, logging, boto3
        boto3.setup_default_session(region_name="us-east-1")
        from bedrock_guard import Guard, guard_process
        logging.basicConfig(level="WARNING")
        guard = guard_process(budget="0 USD", ledger="memory://")
        client = boto3.client("bedrock-runtime", endpoint_url=URL)
        print(json.dumps({"guarded": Guard.of(client) is guard}))
        """,
        server,
    )

    assert said["guarded"] is True
    assert str(said["stderr"]).count("existed before guard_process()") == 1


def test_async_clients_that_a_framework_makes_are_guarded(server: BedrockServer) -> None:
    """
    LlamaIndex, Haystack and CrewAI switch to aiobotocore by themselves when it is installed.
    """
    pytest.importorskip("aiobotocore")
    said = run(
        """
        import asyncio, json
        from bedrock_guard import guard_process
        guard_process(budget="0 USD", ledger="memory://")
        from aiobotocore.session import get_session

        async def main():
            async with get_session().create_client(
                "bedrock-runtime", region_name="us-east-1", endpoint_url=URL,
                aws_access_key_id="x", aws_secret_access_key="x",
            ) as client:
                try:
                    await client.converse(modelId="amazon.nova-lite-v1:0", messages=[{"role": "user", "content": [{"text": "hi"}]}])
                except Exception as error:
                    return type(error).__name__

        print(json.dumps({"error": asyncio.run(main())}))
        """,
        server,
    )

    assert said["error"] == "BudgetExceeded"
    assert server.requests == ()
