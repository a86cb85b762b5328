"""
For tests of code that calls Bedrock: a fixture, a marker, and a limit for the whole session.

    guarded_bedrock                a client of a Bedrock on loopback, with a budget in memory
    bedrock_budget("0.05 USD")     the most that a test may spend, by that client and by those it makes itself
    --bedrock-budget "1 USD"       the most that the session may spend, in all its processes

pytest loads this module wherever the package is installed, so all that is heavy is imported on use.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from bedrock_guard.bill import Bill
    from bedrock_guard.domain.entry import Entry
    from bedrock_guard.testing.bedrock_server import BedrockServer
    from bedrock_guard.wiring import Guard

_MARKER: Final = "bedrock_budget"
_UNMARKED: Final = "1 USD"
_WORKER: Final = "PYTEST_XDIST_WORKER"
# As `running` has it, which is imported on use.
_RUNS: Final = "BEDROCK_GUARD_RUNS"


@dataclass(frozen=True, slots=True)
class GuardedBedrock:
    """
    What `guarded_bedrock` is.

    Attributes:
        client: boto3's, guarded; it asks *server*.
        guard: Its guard, with a ledger in memory.
        server: A `BedrockServer`, to be told what to answer; its `bill` is what a real one would charge.
    """

    client: Any
    guard: Guard
    server: BedrockServer

    @property
    def entries(self) -> list[Entry]:
        """
        The records of its calls, newest first.
        """
        return list(self.guard.entries())

    @property
    def bill(self) -> Bill:
        """
        What they came to, by model.
        """
        from bedrock_guard.bill import read_bill  # noqa: PLC0415

        return read_bill(self.guard.entries())


@pytest.fixture
def guarded_bedrock(request: pytest.FixtureRequest) -> Iterator[GuardedBedrock]:
    """
    A guarded client of a Bedrock on this machine; its budget is the marker's, `bedrock_budget("0.05 USD")`.
    """
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    from bedrock_guard.hooks.attach import owners_of  # noqa: PLC0415
    from bedrock_guard.testing.bedrock_server import BedrockServer  # noqa: PLC0415
    from bedrock_guard.wiring import Guard  # noqa: PLC0415

    marker = request.node.get_closest_marker(_MARKER)
    limit = _UNMARKED if marker is None else _limit_of(marker)
    with (
        BedrockServer() as server,
        Guard(budget=f"test: {limit}", ledger="memory://", settings={}, sinks=[]) as guard,
    ):
        client = boto3.Session().client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=server.url,
            aws_access_key_id="any",
            aws_secret_access_key="any",  # noqa: S106  (the loopback server checks no signature)
            config=Config(proxies={}),
        )
        # Its calls cost nothing, so the session's limit is not theirs.
        for owner in owners_of(client):
            if isinstance(owner, Guard):
                owner.detach(client)
        yield GuardedBedrock(guard.attach(client), guard, server)


def pytest_addoption(parser: pytest.Parser) -> None:
    """
    Add `--bedrock-budget`.
    """
    parser.getgroup("bedrock-guard").addoption(
        "--bedrock-budget",
        metavar="LIMIT",
        help='The most that this session may spend on Amazon Bedrock, in all its processes: "1 USD".',
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """
    Put the session's guard on, before a conftest could make a client.
    """
    limit = getattr(early_config.known_args_namespace, "bedrock_budget", None)
    # A worker is in the session of its controller, by the environment; on another host it is not.
    is_in_one = os.environ.get(_WORKER) and os.environ.get(_RUNS)
    if limit is not None and not is_in_one:
        early_config.pluginmanager.register(_Session(limit), "bedrock_guard_session")


def pytest_configure(config: pytest.Config) -> None:
    """
    Make the marker known.
    """
    config.addinivalue_line(
        "markers", f'{_MARKER}(limit): the most that the test may spend on Amazon Bedrock: "0.05 USD".'
    )
    config.stash[_TESTS] = _Tests()


def pytest_unconfigure(config: pytest.Config) -> None:
    """
    Leave botocore as it was.
    """
    config.stash[_TESTS].forget()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """
    Put a guard round the clients that a marked test makes, before its fixtures make some.
    """
    marker = item.get_closest_marker(_MARKER)
    if marker is not None:
        item.config.stash[_TESTS].begin(_limit_of(marker))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """
    Take it off again, after the fixtures are gone.
    """
    try:
        return (yield)
    finally:
        item.config.stash[_TESTS].end()


def _limit_of(marker: pytest.Mark) -> str:
    from bedrock_guard.domain.budget import parse_limit  # noqa: PLC0415
    from bedrock_guard.errors import ConfigurationError  # noqa: PLC0415

    if len(marker.args) != 1 or marker.kwargs:
        pytest.fail(f'{_MARKER} takes one limit: @pytest.mark.{_MARKER}("0.05 USD").', pytrace=False)
    try:
        parse_limit(marker.args[0])
    except ConfigurationError as error:
        pytest.fail(f"{_MARKER}: {error}", pytrace=False)
    return str(marker.args[0])


class _Tests:
    """
    The guard of the marked test that runs, if one does, on every client that is made meanwhile.
    """

    def __init__(self) -> None:
        self._guard: Guard | None = None
        self._clients: list[Any] = []
        self._is_watching = False

    def begin(self, limit: str) -> None:
        """
        A test begins, with this limit.
        """
        import botocore  # noqa: PLC0415

        from bedrock_guard.wiring import Guard  # noqa: PLC0415

        if not self._is_watching:
            botocore.register_initializer(self._watch)
            self._is_watching = True
        # boto3's own session may be an earlier test's.
        existing = getattr(sys.modules.get("boto3"), "DEFAULT_SESSION", None)
        if existing is not None:
            self._watch(existing)
        self._guard = Guard(budget=f"test: {limit}", ledger="memory://", settings={}, sinks=[])

    def end(self) -> None:
        """
        It is over: its clients may be another's now.
        """
        guard, self._guard = self._guard, None
        if guard is not None:
            for client in self._clients:
                guard.detach(client)
            self._clients.clear()
            guard.close()

    def forget(self) -> None:
        """
        No test will begin.
        """
        if self._is_watching:
            import botocore  # noqa: PLC0415

            botocore.unregister_initializer(self._watch)

    def _watch(self, session: Any) -> None:
        from bedrock_guard.hooks.sessions import attach_session  # noqa: PLC0415

        attach_session(session, self._put_on, unique_id=f"pytest-{id(self):x}")

    def _put_on(self, client: Any) -> None:
        if self._guard is not None:
            self._clients.append(self._guard.attach(client))


_TESTS: Final = pytest.StashKey[_Tests]()


class _Session:
    """
    The limit of a session: a run, that this process is in, too.
    """

    def __init__(self, limit: str) -> None:
        from bedrock_guard.api import guard_process  # noqa: PLC0415
        from bedrock_guard.errors import GuardError  # noqa: PLC0415
        from bedrock_guard.running import RunGuard, environment, open_run  # noqa: PLC0415

        self._stack = ExitStack()
        made = tempfile.TemporaryDirectory(prefix="bedrock-guard-pytest-", ignore_cleanup_errors=True)
        folder = Path(self._stack.enter_context(made))
        before = dict(os.environ)
        try:
            run = open_run(folder, budgets=[limit])
            inside = environment(run, before)
            changed = {name: value for name, value in inside.items() if before.get(name) != value}
            os.environ.update(changed)
            self._stack.callback(_restore, {name: before.get(name) for name in changed})
            self._guard = RunGuard(run)
        except GuardError as error:
            self._stack.close()
            raise pytest.UsageError(f"--bedrock-budget: {error}") from None
        guard_process(guard=self._guard)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """
        Print what the session came to.
        """
        from bedrock_guard.bill import bill_notes, bill_rows, show_status  # noqa: PLC0415
        from bedrock_guard.budgets.verdict import one_line  # noqa: PLC0415

        self._guard.flush()
        bill = self._guard.bill()
        terminalreporter.section("Amazon Bedrock")
        for row in self._guard.status():
            terminalreporter.write_line(one_line(show_status(row)))
        rows = bill_rows(bill) if bill.lines else []
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for name, *figures in rows:
            cells = [name.ljust(widths[0]), *map(str.rjust, figures, widths[1:])]
            terminalreporter.write_line(one_line("  ".join(cells)))
        for note in bill_notes(bill):
            terminalreporter.write_line(one_line(note))

    def pytest_unconfigure(self) -> None:
        """
        Take the environment back, and close the ledger.
        """
        self._guard.close()
        self._stack.close()


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
