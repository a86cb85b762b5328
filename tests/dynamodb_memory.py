"""
DynamoDB in this process, for thousands of tables: the simulation's, which is held against the other engine.

Requests are done at once, and are those that the real one takes.
"""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from simulation.fleet.dynamodb import Engine

from bedrock_guard.ledgers.dynamodb import clients, items

_NUMBERS = itertools.count()


@contextmanager
def installed() -> Iterator[None]:
    """
    While it lasts, each table is here, and empty until it is written to.
    """
    tables: dict[str, Engine] = defaultdict(lambda: Engine(time.time))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(items, "SHARDS", 2)
        patch.setattr(items, "DIRECTORIES", 1)
        patch.setattr(clients.Clients, "_make", lambda *_: _Client(tables))
        yield


def table_url() -> str:
    """
    The URL of a new, empty table.
    """
    return f"dynamodb://test-{next(_NUMBERS)}?region=us-east-1&deadline_ms=10000"


class _Client:
    def __init__(self, tables: dict[str, Engine]) -> None:
        self.meta = SimpleNamespace(region_name="us-east-1")
        self._tables = tables

    def close(self) -> None:
        """
        There is nothing to give back.
        """

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation.startswith("_"):
            raise AttributeError(operation)
        return lambda **params: self._tables[_table_of(params)].send(operation, params)


def _table_of(params: dict[str, Any]) -> str:
    if "TransactItems" in params:
        (body,) = params["TransactItems"][0].values()
        return str(body["TableName"])
    return str(params.get("TableName") or next(iter(params["RequestItems"])))
