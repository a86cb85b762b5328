"""
The pytest plugin, in test sessions of its own.
"""

from __future__ import annotations

import os
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from bedrock_guard.testing.bedrock_server import BedrockServer

pytest_plugins = ["pytester"]

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import os, sys
import pytest

HELLO = {
    "modelId": "amazon.nova-lite-v1:0",
    "messages": [{"role": "user", "content": [{"text": "hi"}]}],
    "inferenceConfig": {"maxTokens": 100},
}

def make():
    import boto3
    return boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=os.environ["URL"])
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester, server: BedrockServer) -> None:
    paths = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *([paths] if paths else [])]))
    monkeypatch.setenv("URL", server.url)
    pytester.makeini("[pytest]\naddopts = --strict-markers\nfilterwarnings = error\n")


@pytest.fixture
def session(pytester: pytest.Pytester):
    # Found by its entry point, but for a checkout that was installed before it had one.
    is_installed = bool(entry_points(group="pytest11", name="bedrock_guard"))
    named = () if is_installed else ("-p", "bedrock_guard.pytest_plugin")

    def run(tests: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(PRELUDE + tests)
        return pytester.runpytest_subprocess(*named, *arguments, timeout=120)

    return run


def test_the_fixture_and_the_marker(session, server: BedrockServer) -> None:
    """
    A client of a Bedrock on this machine; the marker limits it, and what a test makes itself, for that test alone.
    """
    done = session(
        """
from bedrock_guard import BudgetExceeded, Guard

def test_fixture(guarded_bedrock):
    guarded_bedrock.server.output_tokens = 7
    guarded_bedrock.client.converse(**HELLO)
    assert guarded_bedrock.bill.calls == len(guarded_bedrock.entries) == len(guarded_bedrock.server.requests) == 1
    assert guarded_bedrock.entries[0].usage == {"input_tokens": 1, "output_tokens": 7}
    assert str(guarded_bedrock.guard.budgets[0]) == "test (1 USD)"

def test_default_session_is_made_before():
    make().converse(**HELLO)

@pytest.mark.bedrock_budget("0.00005 USD")
def test_marked(guarded_bedrock):
    for client in (guarded_bedrock.client, make()):
        client.converse(**HELLO)
        with pytest.raises(BudgetExceeded, match=r"test \\(0.00005 USD\\)"):
            client.converse(**HELLO)
    pytest.kept = client

def test_afterwards():
    for client in (pytest.kept, make()):
        assert Guard.of(client) is None
        client.converse(**HELLO)

@pytest.mark.bedrock_budget("lots")
def test_bad_limit():
    pass

@pytest.mark.bedrock_budget
def test_no_limit():
    pass
""",
    )

    done.assert_outcomes(passed=4, errors=2)
    done.stdout.fnmatch_lines(
        [
            "*bedrock_budget: 'lots' is not a limit.*",
            "*bedrock_budget takes one limit: @pytest.mark.bedrock_budget*",
        ]
    )
    assert len(server.requests) == 4


@pytest.mark.slow
def test_a_session_has_a_limit_and_a_bill(session, server: BedrockServer) -> None:
    """
    It holds for what a conftest makes, and for programs that tests start; calls of the fixture cost nothing.
    """
    done = session(
        """
import subprocess

kept = make()
PROGRAM = "import test_a_session_has_a_limit_and_a_bill as t; t.make().converse(**t.HELLO)"

def test_calls(guarded_bedrock):
    guarded_bedrock.client.converse(**HELLO)
    make().converse(**HELLO)
    subprocess.run([sys.executable, "-c", PROGRAM], check=True)

def test_refused():
    kept.converse(**HELLO)
""",
        "--bedrock-budget",
        "0.00008 USD",
    )

    done.assert_outcomes(passed=1, failed=1)
    done.stdout.fnmatch_lines(
        [
            "*= Amazon Bedrock =*",
            "run: $0.00004812 of $0.00008 (60 %)",
            "model                  calls  input  output  cache hit         cost",
            "amazon.nova-lite-v1:0      2      2     200        0 %  $0.00004812",
            "1 call was refused by run",
        ]
    )
    assert len(server.requests) == 2


@pytest.mark.slow
def test_workers_of_xdist_share_the_limit_of_their_session(session, server: BedrockServer) -> None:
    """
    Each is a process of its own.
    """
    pytest.importorskip("xdist")
    done = session(
        """
@pytest.mark.parametrize("number", range(4))
def test_call(number):
    make().converse(**HELLO)
""",
        "--bedrock-budget",
        "0.00009 USD",
        "-p",
        "xdist",
        "-n",
        "2",
    )

    # A call is held at 0.00004068 and costs 0.00002406.
    assert len(server.requests) in (2, 3)
    done.assert_outcomes(passed=len(server.requests), failed=4 - len(server.requests))
    done.stdout.fnmatch_lines(["*= Amazon Bedrock =*", "amazon.nova-lite-v1:0*"])


@pytest.mark.slow
def test_the_page_can_be_followed(session) -> None:
    """
    A newcomer copies its tests as they stand.
    """
    page = (ROOT / "docs" / "how-to" / "test-your-code.md").read_text()

    done = session("\n".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)))

    done.assert_outcomes(passed=2)


@pytest.mark.slow
@pytest.mark.parametrize("worker", ["", "gw0"])
def test_a_limit_that_is_none_is_said(session, worker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Before a test is run; and a worker that is in no limited session, as one on another host, has its own.
    """
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)

    done = session("def test(): pass", "--bedrock-budget", "lots")

    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: --bedrock-budget: 'lots' is not a*"])


def test_a_session_that_uses_none_of_it_pays_nothing(session, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Plugins are loaded wherever they are installed, in suites that have never heard of Bedrock.
    """
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)
    done = session(
        """
def test_modules():
    assert sorted(name for name in sys.modules if name.startswith("bedrock_guard")) == [
        "bedrock_guard", "bedrock_guard.pytest_plugin",
    ]
    assert not {"boto3", "botocore", "pydantic"} & sys.modules.keys()
    assert "BEDROCK_GUARD_RUNS" not in os.environ
"""
    )

    done.assert_outcomes(passed=1)
    assert "Amazon Bedrock" not in done.stdout.str()
