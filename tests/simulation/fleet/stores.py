"""
What the ledgers of a fleet keep their books in: one store for each kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final, Protocol

from simulation.fleet.leases import LeaseStore
from simulation.fleet.network import Network
from simulation.fleet.nodes import Node
from simulation.fleet.oracle import Kept, Oracle, Story
from simulation.fleet.scenario import Scenario
from simulation.fleet.sqlite import SQLiteStore
from simulation.fleet.table import DynamoDBStore
from simulation.fleet.world import World


class Store(Protocol):
    """
    Where the books are, and how they are read past the ledger.

    Attributes:
        faults: What can happen to messages, and how often in a storm.
        network: None where there is none.
        has_calls: Whether each call that holds money is kept.
        can_fork: Whether a process can be forked here.
    """

    faults: Mapping[str, float]
    network: Network | None
    has_calls: bool
    can_fork: bool

    def __init__(self, world: World, scenario: Scenario, oracle: Oracle) -> None: ...

    def installed(self, world: World) -> AbstractContextManager[None]:
        """
        While this lasts, ledgers are on it.
        """
        ...

    def open(self, node: Node) -> Any:
        """
        The ledger of a process.
        """
        ...

    def fork(self, node: Node, child: Node) -> None:
        """
        Give *child* a copy of the ledger of *node*, as a fork does.
        """
        ...

    def check_admitted(self, node: Node, story: Story) -> None:
        """
        A process was told that a call may go.
        """
        ...

    def told(self, story: Story) -> None:
        """
        A process was told that a call has ended.
        """
        ...

    def is_whole(self, node: Node) -> bool:
        """
        Whether a process that has left could write all that it knew.
        """
        ...

    def calls(self) -> dict[str, Kept]:
        """
        Every call that is kept.
        """
        ...

    def check(self) -> None:
        """
        All balances, when all is over.
        """
        ...

    def check_calls(self, listed: Counter[str]) -> None:
        """
        All calls, when all is over; *listed* is how often the journal has each.
        """
        ...

    def close(self) -> None:
        """
        Leave nothing behind.
        """
        ...


# A new kind of ledger needs its line here.
STORES: Final[dict[str, type[Store]]] = {
    "dynamodb": DynamoDBStore,
    "lease": LeaseStore,
    "sqlite": SQLiteStore,
}
