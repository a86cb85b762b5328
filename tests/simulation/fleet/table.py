"""
Ledgers on the simulation's DynamoDB, and how their books are read past them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from simulation.fleet import seams
from simulation.fleet.dynamodb import Changes, Engine
from simulation.fleet.forks import forked
from simulation.fleet.network import STORM, Network
from simulation.fleet.nodes import Node
from simulation.fleet.oracle import Breach, Kept, Oracle, Story, Wrong
from simulation.fleet.scenario import Scenario
from simulation.fleet.world import World

from bedrock_guard.domain.ledger import LedgerKey, Line
from bedrock_guard.ledgers.dynamodb import DynamoDBLedger, items, packing
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.ledgers.dynamodb.lines import is_rolling, read_sub_windows


class DynamoDBStore:
    """
    The exact mode: balances, and calls beside them.
    """

    faults: Mapping[str, float] = STORM
    has_calls = True
    can_fork = True

    def __init__(self, world: World, scenario: Scenario, oracle: Oracle) -> None:
        self._oracle = oracle
        oracle.stops_after_s = 2.1
        self.engine = Engine(lambda: world.now)
        self.engine.on_write = self._check_write
        self.network = Network(
            world, self.engine, seed=scenario.seed, rates=dict(scenario.network), muted=scenario.muted
        )
        self.network.on_revival = oracle.revived.update

    @contextmanager
    def installed(self, world: World) -> Iterator[None]:
        """
        While this lasts, ledgers are on it.
        """
        network = self.network
        with seams.installed(world, make_client=lambda clients, shares: network.make_client(clients, shares)):
            yield

    def open(self, node: Node) -> Any:
        """
        The ledger of a process.
        """
        return DynamoDBLedger(
            read_address("dynamodb://books?region=us-east-1&deadline_ms=2000"), clock=node.clock
        )

    def fork(self, node: Node, child: Node) -> None:
        """
        Give *child* a copy of the ledger of *node*, as a fork does.
        """
        child.ledger = forked(node.ledger, node, child, [node.ledger.table._inside])

    def check_admitted(self, node: Node, story: Story) -> None:
        """
        Each write was looked at already.
        """

    def told(self, story: Story) -> None:
        """
        A process was told that a call has ended.
        """
        self._oracle.book(story)

    def is_whole(self, node: Node) -> bool:
        """
        Whether a process that has left could write all that it knew.
        """
        return True

    def close(self) -> None:
        """
        There is nothing to leave behind.
        """

    def calls(self) -> dict[str, Kept]:
        """
        Every call that is kept.
        """
        found = {}
        for (pk, _), item in self.engine.items.items():
            kept = _read_call(item) if _is_call(pk) else None
            if kept is not None:
                found[item["id"]["S"]] = kept
        return found

    def check(self) -> None:
        """
        All balances, when all is over.
        """
        for (pk, _), item in self.engine.items.items():
            if pk.startswith("B#") and item["used"]["N"] != item["spent"]["N"]:
                raise Wrong(f"{pk} is at rest, and {item['used']['N']} is used, {item['spent']['N']} spent")

    def spent(self) -> dict[LedgerKey, int]:
        """
        What is spent of each balance that does not roll.
        """
        keys = [
            items.read_directory_item(item)
            for (pk, _), item in self.engine.items.items()
            if pk.startswith("D#")
        ]
        found = {}
        for key in keys:
            item = self.engine.items.get(items.place_of_balance(key))
            if item is not None and not is_rolling(key):
                found[key] = int(item["spent"]["N"])
        return found

    def check_calls(self, listed: Counter[str]) -> None:
        """
        All calls, when all is over; *listed* is how often the journal has each.
        """
        kept = self.calls()
        for id_ in {**self._oracle.stories, **kept}:
            self._oracle.check_call(id_, kept.get(id_), listed[id_])

    def _check_write(self, operation: str, changes: Changes) -> None:
        """
        Each write moves balances by what it moves calls by, and leaves none above its limit.
        """
        moved = self._moved_by(changes)
        for (pk, _), (before, after) in changes.items():
            if pk.startswith("B#") and after is not None:
                self._check_balance(pk, before, after, moved)
        for story, key in self._opened(changes):
            item = self.engine.items.get(items.place_of_balance(key))
            if item is not None and not is_rolling(key):
                self._oracle.check_cap(story, key, int(item["used"]["N"]))
        # What has left a rolling window is in no balance any more.
        left = {name: sums for name, sums in moved.items() if "@" not in name.rpartition("]")[2]}
        if left:
            raise Wrong(f"{operation}: calls have changed by {left}, and no balance has")

    def _opened(self, changes: Changes) -> Iterator[tuple[Story, LedgerKey]]:
        """
        Calls that hold money from now on, and where.
        """
        for (pk, _), (before, after) in changes.items():
            kept = _read_call(after) if _is_call(pk) and not before else None
            story = self._oracle.stories.get(after["id"]["S"]) if kept and after else None
            if kept is not None and story is not None and kept.state == "pending":
                yield from ((story, line.key) for line in kept.lines)

    def _moved_by(self, changes: Changes) -> dict[str, list[int]]:
        """
        By how much what is used and spent of each balance must change.
        """
        moved: dict[str, list[int]] = {}
        for (pk, _), (before, after) in changes.items():
            if not _is_call(pk):
                continue
            was, now = _read_call(before), _read_call(after)
            old, new = was.sums() if was else {}, now.sums() if now else {}
            for key in {**old, **new}:
                more, less = new.get(key, (0, 0)), old.get(key, (0, 0))
                self._move(moved, key, more[0] - less[0], more[1] - less[1])
        return moved

    def _move(self, moved: dict[str, list[int]], key: LedgerKey, used: int, spent: int) -> None:
        name = _name_of(key)
        sums = moved.setdefault(name, [0, 0])
        sums[0] += used
        sums[1] += spent
        if sums == [0, 0]:
            del moved[name]

    def _check_balance(self, pk: str, before: Any, after: Any, moved: dict[str, list[int]]) -> None:
        key = _KEYS.get(pk)
        if key is not None and is_rolling(key):
            self._check_rolling(key, before, after, moved)
            return
        used, spent = (int(after[name]["N"]) for name in ("used", "spent"))
        old = [int(before[name]["N"]) if before else 0 for name in ("used", "spent")]
        change, wanted = [used - old[0], spent - old[1]], moved.pop(pk, [0, 0])
        if change != wanted:
            raise Wrong(f"{pk} has changed by {change}, and what counts towards it by {wanted}")
        if key is not None:
            self._oracle.check_balance(key, used, spent)

    def _check_rolling(self, key: LedgerKey, before: Any, after: Any, moved: dict[str, list[int]]) -> None:
        was, now = read_sub_windows(before), read_sub_windows(after)
        for start, (spent, pending) in now.items():
            old = was.get(start, (0, 0))
            change = [spent + pending - sum(old), spent - old[0]]
            wanted = moved.pop(_name_of(key._replace(window_start=start)), [0, 0])
            if change != wanted:
                raise Wrong(f"{key} has changed by {change} in {start}, and its calls by {wanted}")
        for start in was.keys() - now.keys():
            moved.pop(_name_of(key._replace(window_start=start)), None)
        used, spent = int(after["used"]["N"]), int(after["spent"]["N"])
        if (used, spent) != (sum(map(sum, now.values())), sum(part[0] for part in now.values())):
            raise Wrong(f"{key}: {used} is used, which its sub-windows do not come to: {now}")
        limits = [limit for each, limit in self._oracle.limits.items() if each.budget == key.budget]
        if not limits:
            return  # calls were charged to it, and none ever asked
        allowed = sum(amount for each, amount in self._oracle.allowed.items() if each.budget == key.budget)
        if used > max(limits) + allowed:
            raise Breach(f"{used} of {limits} is used on {key}")


def _is_call(pk: str) -> bool:
    return pk.startswith("J#") or pk == items.FOREIGN


def _read_call(item: Any) -> Kept | None:
    """
    A call that holds money or did; None for what only tells of something.
    """
    if item is None or "ln" not in item:
        return None
    state = items._STATES[item["st"]["S"]]
    booked = tuple(json.loads(item["b"]["S"])) if "b" in item else ()
    return Kept(state, _read_lines(item["ln"]["B"]), booked, "e" in item)


@lru_cache(maxsize=10_000)
def _read_lines(packed: bytes) -> tuple[Line, ...]:
    return items._read_lines(packing.unpack(packed))


@lru_cache(maxsize=10_000)
def _name_of(key: LedgerKey) -> str:
    """
    By which a balance's changes are added up: its partition, and the sub-window.
    """
    pk = items.place_of_balance(key)[0]
    name = f"{pk}@{key.window_start}" if is_rolling(key) else pk
    _KEYS[pk] = key._replace(window_start=0) if is_rolling(key) else key
    return name


_KEYS: dict[str, LedgerKey] = {}
