"""
A DynamoDB for tests: ministack, in a virtual environment of its own, on a free port of this machine.

It pins a botocore that is not ours, so it is never installed beside us. `BEDROCK_GUARD_TEST_DYNAMODB_URL`
names another engine to test against; in CI there must be one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dynamodb_rules
import pytest
from botocore import xform_name

from bedrock_guard.ledgers.dynamodb import address, clients, items, schema

MINISTACK = "ministack==1.5.33"
ENDPOINT = "BEDROCK_GUARD_TEST_DYNAMODB_URL"
FOLDER = Path(__file__).resolve().parents[1] / ".pytest_cache" / "d"


class Engine:
    """
    A ministack that can be stopped, and started again on its port, with what it held.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._python = _installed()
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
        self._process = subprocess.Popen(
            [self._python, "-m", "ministack"],
            env={
                **environment,
                "GATEWAY_PORT": str(self.port),
                "BIND_HOST": "127.0.0.1",
                "SERVICES": "dynamodb,s3,sts",
                "LOG_LEVEL": "ERROR",
                **({"PERSIST_STATE": "1", "STATE_DIR": str(self._folder)} if self._folder else {}),
            },
            cwd=tempfile.gettempdir(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError(f"{MINISTACK} does not start")

    def stop(self) -> None:
        if self._process is not None:
            if self._folder is None:
                self._process.kill()
            else:
                self._process.terminate()
            self._process.wait(30)
            self._process = None


@cache
def endpoint() -> str:
    """
    The engine that all tests of this process share.
    """
    if os.environ.get(ENDPOINT):
        return os.environ[ENDPOINT]
    engine = Engine()
    engine.start()
    atexit.register(engine.stop)
    return engine.url


def _checked_session(where: address.Address) -> Any:
    """
    Each request of its clients is one that real DynamoDB takes.
    """
    session = OPEN_SESSION(where)

    def check(params: dict[str, Any], model: Any, **_: Any) -> None:
        dynamodb_rules.check(xform_name(model.name), params)

    session.events.register("before-parameter-build.dynamodb", check)
    return session


@cache
def _session(region: str | None) -> Any:
    return _checked_session(address.Address("any", region=region))


# A session reads a model of all of DynamoDB, which takes longer than most tests: they share one.
OPEN_SESSION = clients._open_session
clients._open_session = lambda where: _checked_session(where) if where.role_arn else _session(where.region)


@cache
def client(endpoint_url: str) -> Any:
    return _session("us-east-1").client("dynamodb", endpoint_url=endpoint_url)


@contextmanager
def quick() -> Iterator[None]:
    """
    For thousands of tables, one after the other: one pair of clients for all, and less to look through.
    """
    make = cache(lambda shares, where: clients.Clients(where)._make(shares))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items, "SHARDS", 2)
        patch.setattr(items, "DIRECTORIES", 1)
        patch.setattr(clients.Clients, "_client", lambda self, shares: make(shares, _of_all(self._address)))
        yield


def _of_all(where: address.Address) -> address.Address:
    return replace(where, table="any")


def table_url(endpoint_url: str | None = None, *, deadline_ms: int = 10_000) -> str:
    """
    The URL of a new, empty table. Its deadline is long, for the machine may be busy with other tests.
    """
    where, name = endpoint_url or endpoint(), f"test-{uuid.uuid4().hex}"
    client(where).create_table(TableName=name, **schema.KEYS)
    return (
        f"dynamodb://{name}?region=us-east-1&endpoint_url={quote(where, safe='')}&deadline_ms={deadline_ms}"
    )


def _installed() -> str:
    """
    The Python of the environment, made once for this checkout.
    """
    name = f"{MINISTACK.replace('==', '-')}-{sys.version_info[0]}.{sys.version_info[1]}"
    python = FOLDER / name / "bin" / "python"
    if not python.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=FOLDER))
        try:
            venv.create(scratch / name, with_pip=True)
            subprocess.run(
                [scratch / name / "bin" / "python", "-m", "pip", "install", "-q", MINISTACK],
                check=True,
                capture_output=True,
                timeout=300,
            )
            try:
                (scratch / name).rename(FOLDER / name)
            except OSError:  # another session was quicker
                assert python.exists()
        except (subprocess.SubprocessError, OSError) as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"{MINISTACK} cannot be installed ({error}); {ENDPOINT} can name another engine")
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return str(python)
