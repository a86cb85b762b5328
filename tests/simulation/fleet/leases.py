"""
Ledgers on leases: the table, and what each process has of it in its own memory.

A call is known to its process alone until its entry is written, so it is not looked for in the table. What must
be true instead: what processes were told is settled is spent, whatever became of them, and nothing is spent twice.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from simulation.fleet.dynamodb import Changes
from simulation.fleet.forks import forked
from simulation.fleet.nodes import Node
from simulation.fleet.oracle import Double, Kept, Lost, Oracle, Story, Wrong
from simulation.fleet.scenario import Scenario
from simulation.fleet.table import DynamoDBStore
from simulation.fleet.world import World

from bedrock_guard.domain.ledger import LedgerKey
from bedrock_guard.ledgers.dynamodb import items
from bedrock_guard.ledgers.dynamodb.address import read_address
from bedrock_guard.ledgers.leases import LeasedLedger

LOOKS_EVERY_S = (0.5, 1.0)


class LeaseStore(DynamoDBStore):
    """
    Slices of balances, beside the calls that are written by themselves.
    """

    has_calls = False

    def __init__(self, world: World, scenario: Scenario, oracle: Oracle) -> None:
        super().__init__(world, scenario, oracle)
        self._nodes: list[Node] = []
        # Those whose last requests were all answered, with no call open.
        self._finished: list[LeasedLedger] = []
        # While the table does not answer, slices are spent by what was last heard.
        oracle.stops_after_s = 60.0

    def open(self, node: Node) -> LeasedLedger:
        """
        The ledger of a process, and what looks after its slices.
        """
        address = read_address("dynamodb://books?region=us-east-1&deadline_ms=2000&mode=lease")
        ledger = LeasedLedger(address, clock=node.clock, keeps_itself=False)
        self._look_after(node, ledger)
        return ledger

    def fork(self, node: Node, child: Node) -> None:
        """
        Give *child* a copy of the ledger of *node*, as a fork does.
        """
        child.ledger = forked(node.ledger, node, child, [node.ledger._table._inside])
        del child.ledger._keeper.finish  # which is the parent's
        self._look_after(child, child.ledger)

    def check_admitted(self, node: Node, story: Story) -> None:
        """
        What a process has spent and holds of its slices is within the limit by which a call had asked.
        """
        # While the table holds the rest of a call, others of its process may overrun.
        is_beside = any(line.kind != "window" for line in story.lines)
        for key in story.caps:
            spent, pending = node.ledger._local.sums(key)
            self._oracle.check_cap(
                story, key, spent + pending - (self._oracle.allowed[key] if is_beside else 0)
            )

    def told(self, story: Story) -> None:
        """
        What it cost beyond what it held is in the table a moment later.
        """

    def _look_after(self, node: Node, ledger: LeasedLedger) -> None:
        self._nodes.append(node)
        finish = ledger._keeper.finish

        def finish_and_say() -> None:
            finish()
            if not ledger._local._open:
                self._finished.append(ledger)

        ledger._keeper.finish = finish_and_say  # type: ignore[method-assign]

        def keep() -> None:
            while not node.is_dead:
                node.sleep(max(node.dice.uniform(*LOOKS_EVERY_S), ledger.look()))

        node.world.spawn(node, "keeper", keep)

    def is_whole(self, node: Node) -> bool:
        """
        Whether a process that has left could give back and write all it had.
        """
        ledger = node.ledger
        is_whole = not (ledger._desk.has_leases or ledger._journal.waiting)
        if ledger in self._finished and not is_whole:
            raise Wrong(
                f"{node.name} has left {ledger._journal.waiting} entries or a slice behind, and met nothing wrong"
            )
        return is_whole

    def check(self) -> None:
        super().check()
        for (pk, sk), item in self.engine.items.items():
            if pk.startswith("L#") and item["st"]["S"] == "O" and item["g"]["N"] != item["s"]["N"]:
                raise Wrong(f"{pk} still leases {item['g']['N']} of {sk}, and has reported {item['s']['N']}")
        for story in self._oracle.stories.values():
            if story.is_whole:
                self._oracle.book(story)
        settled = self._settled()
        is_whole = all(story.is_whole for story in self._oracle.stories.values()) and not self._has_expired()
        for key, spent in self.spent().items():
            if spent < settled[key] or (is_whole and spent != settled[key]):
                wrong = Lost if spent < settled[key] else Double
                raise wrong(f"{spent} is spent on {key}; programs were told of {settled[key]}")

    def _has_expired(self) -> bool:
        return any(
            item["st"]["S"] == "E" for (pk, _), item in self.engine.items.items() if pk.startswith("L#")
        )

    def _settled(self) -> Counter[LedgerKey]:
        found: Counter[LedgerKey] = Counter()
        for story in self._oracle.stories.values():
            if story.told is not None and story.told[0] == "settled":
                for key, amount in story.charged(story.told[1]).items():
                    # What died with its process was charged at what it held.
                    found[key] += amount if story.is_whole else min(amount, story.held(key))
        return found

    def calls(self) -> dict[str, Kept]:
        """
        Only those that count towards something that is never leased.
        """
        return {id_: kept for id_, kept in super().calls().items() if kept.lines}

    def check_calls(self, listed: Counter[str]) -> None:
        """
        Each call that was ended has its entry, unless its process died with it; none has two.
        """
        for id_, story in self._oracle.stories.items():
            if story.is_refused and listed[id_] and id_ not in self._oracle.revived:
                raise Wrong(f"{id_} holds nothing, its program was told, and has an entry")
            if listed[id_] > 1 or (story.told and story.is_whole and listed[id_] != 1):
                raise (Double if listed[id_] > 1 else Lost)(
                    f"{id_} was ended as {story.told}, and has {listed[id_]} entries"
                )

    def _moved_by(self, changes: Changes) -> dict[str, list[int]]:
        moved = super()._moved_by(changes)
        for (pk, _), (before, after) in changes.items():
            if pk.startswith("L#"):
                old, new = _sums_of(before), _sums_of(after)
                key = items.read_directory_item(after or before)
                self._move(moved, key, new[0] - old[0], new[1] - old[1])
                self._check_holder(pk, key, int((after or before)["g"]["N"]))
        return moved

    def _check_holder(self, pk: str, key: LedgerKey, granted: int) -> None:
        """
        What a process takes for its own is never more than what the table has granted it.
        """
        for node in self._nodes:
            ledger = None if node.is_dead else node.ledger
            if ledger is not None and pk == items.leases(ledger._desk.owner):
                own = ledger._local.granted(key)
                if own > granted:
                    raise Wrong(f"{node.name} takes {own} of {key} for its own, and {granted} is granted")


def _sums_of(item: Any) -> tuple[int, int]:
    """
    What a lease adds to what is used, and to what is spent.
    """
    if item is None or item["st"]["S"] == "Z":
        return 0, 0
    granted = int(item["g"]["N"])
    return granted, granted if item["st"]["S"] == "E" else int(item["s"]["N"])
