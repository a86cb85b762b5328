"""
One simulation: a scenario, played by programs on the real ledgers, watched by the oracle.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

from simulation.fleet.nodes import Node
from simulation.fleet.oracle import Lost, Oracle, Wrong
from simulation.fleet.program import Program
from simulation.fleet.scenario import HOLD_S, LASTS_S, WINDOW_S, Event, EventKind, Scenario
from simulation.fleet.stores import STORES
from simulation.fleet.world import BEGIN_S, World

from bedrock_guard.domain.control import Stop, TopUp
from bedrock_guard.domain.ledger import LedgerKey, read_all_entries
from bedrock_guard.testing.ledger_calls import EVERYTHING, open_entry

# After the last message that may still arrive: late repetitions, a partition, a hold and the clocks' differences.
REST_S = 800.0
# Of one clock to another: what they differ by, and are set by.
MOST_AHEAD_S = 80.0
# So often somebody sweeps, and not more often.
SWEEP_S = 150.0
# Events that need a process; the others tell on the one that comes next, too.
OF_THE_LIVING = ("top_up", "stop", "fork")


@dataclass
class Result:
    """
    What came of it.

    Attributes:
        failure: What was not as it must be; None if all was.
        faults: What happened to messages, by message.
    """

    scenario: Scenario
    failure: BaseException | None
    digest: str
    history: list[str]
    counts: Counter[str]
    faults: dict[str, str]
    virtual_s: float
    real_s: float


class Fleet:
    """
    Processes that come and go, and what befalls them.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = World()
        self.oracle = Oracle()
        self.store: Any = STORES[scenario.ledger](self.world, scenario, self.oracle)
        self._programs: dict[int, Program] = {}
        self._forks: dict[int, list[Program]] = {}
        self._factors: dict[int, float] = {}
        self._all: list[Program] = []
        self._born: Counter[int] = Counter()
        self._stepped: Counter[int] = Counter()

    def play(self) -> Result:
        """
        All of it, to the end.
        """
        began = time.perf_counter()
        scenario, world = self.scenario, self.world
        with self.store.installed(world):
            try:
                for slot in range(len(scenario.clocks)):
                    world.at(BEGIN_S + slot / 100, partial(self._start, slot))
                for plan in scenario.calls:
                    world.at(BEGIN_S + 1 + plan.at_s, partial(self._call, plan))
                for event in scenario.events:
                    world.at(BEGIN_S + 1 + event.at_s, partial(self._befall, event))
                world.at(BEGIN_S + 1 + LASTS_S + 3 * HOLD_S, self._end_all)
                world.at(BEGIN_S + 1 + LASTS_S + 3 * HOLD_S + REST_S, self._audit)
                world.run()
            finally:
                world.end()
                self.store.close()
        return Result(
            scenario,
            world.failure,
            world.digest,
            world.history,
            self.oracle.counts,
            self.store.network.faults if self.store.network else {},
            world.now - BEGIN_S,
            time.perf_counter() - began,
        )

    def _start(self, slot: int) -> None:
        running = self._programs.get(slot)
        if running is not None and not running.node.is_dead and not running.node.is_leaving:
            return
        self._born[slot] += 1
        clock = self.scenario.clocks[slot]
        name = f"p{slot}.{self._born[slot]}"
        offset_s = clock.offset_s + self._stepped[slot]
        node = Node(self.world, name, seed=self.scenario.seed, offset_s=offset_s, drift=clock.drift)
        self._programs[slot] = self._add(slot, node)

    def _add(self, slot: int, node: Node) -> Program:
        program = Program(self.world, node, self.scenario, self.oracle, self.store)
        program.factor = self._factors.get(slot, 1.0)
        self._all.append(program)
        self.world.spawn(node, "upkeep", program.begin)
        return program

    def _one_of(self, slot: int, number: int) -> Program:
        """
        The process of a slot, or one that it has forked.
        """
        forks = [program for program in self._forks.get(slot, ()) if not program.node.is_dead]
        return [self._programs[slot], *forks][number % (len(forks) + 1)]

    def _call(self, plan: Any) -> None:
        program = self._one_of(plan.slot, plan.number)
        if not program.node.is_dead:
            self.world.spawn(program.node, f"call {plan.number}", partial(program.call, plan))

    def _befall(self, event: Event) -> None:
        program = self._one_of(event.slot, int(event.at_s * 1000))
        node = program.node
        is_met = self._is_met(event.kind, node)
        self.oracle.counts[event.kind] += is_met
        self.world.tell(f"{node.name} {event.kind} {event.amount:.3f}")
        if is_met or event.kind not in OF_THE_LIVING:
            getattr(self, f"_{event.kind}")(event, program, node)

    def _is_met(self, kind: EventKind, node: Node) -> bool:
        """
        Whether an event finds whom it is for: the process of a slot may be dead, and some cannot be forked.
        """
        if kind not in OF_THE_LIVING:
            return not node.is_dead
        can_fork = self.store.can_fork and not node.is_leaving
        return not node.is_dead and node.ledger is not None and (kind != "fork" or can_fork)

    def _kill(self, event: Event, program: Program, node: Node) -> None:
        node.kill()
        self.world.at(self.world.now + event.amount, partial(self._start, event.slot))

    def _deploy(self, event: Event, program: Program, node: Node) -> None:
        node.is_leaving = True
        # The new one begins while the old one is still leaving.
        self.world.at(self.world.now + event.amount, partial(self._start, event.slot))

    def _freeze(self, event: Event, program: Program, node: Node) -> None:
        node.frozen_until_s = self.world.now + event.amount

    def _cut(self, event: Event, program: Program, node: Node) -> None:
        node.cut_until_s = self.world.now + event.amount

    def _step(self, event: Event, program: Program, node: Node) -> None:
        node.offset_s += event.amount
        self._stepped[event.slot] += round(event.amount)

    def _policy(self, event: Event, program: Program, node: Node) -> None:
        self._factors[event.slot] = event.amount
        program.factor = event.amount

    def _fork(self, event: Event, program: Program, node: Node) -> None:
        forks = self._forks.setdefault(event.slot, [])
        name = f"{node.name}f{len(forks)}"
        child = Node(self.world, name, seed=self.scenario.seed, offset_s=node.offset_s, drift=node.drift)
        child.began_s = node.began_s
        forks.append(
            self._add(event.slot, child)
        )  # its first thread, which runs what is registered for a fork
        self.store.fork(node, child)

    def _top_up(self, event: Event, program: Program, node: Node) -> None:
        amount, now = int(event.amount), node.clock()
        team = LedgerKey("team", "USD", (("team", str(amount % 3)),), 0)
        window = LedgerKey("all", "USD/3 minutes@UTC", (), int(now // WINDOW_S * WINDOW_S))
        key, base = (team, self.scenario.limits[1]) if amount % 2 else (window, self.scenario.limits[0])
        until_s = None if amount % 2 else window.window_start + WINDOW_S
        id_ = f"top-up {event.at_s:.6f}"
        control = TopUp(
            id=id_, **key._asdict(), amount=amount, reason="more", by="operator", at_s=now, until_s=until_s
        )
        self.oracle.raise_limit(key, base, amount)
        self._control(program, control)

    def _stop(self, event: Event, program: Program, node: Node) -> None:
        now = node.clock()
        until_s = now + event.amount
        # For whom whose clock is ahead it passes sooner.
        passes_s = self.world.now + event.amount - MOST_AHEAD_S
        id_ = f"stop {event.at_s:.6f}"
        control = Stop(id=id_, match={}, reason="enough", by="operator", at_s=now, until_s=until_s)
        self._control(program, control, lambda: self.oracle.stops.append((self.world.now, passes_s)))

    def _control(self, program: Program, control: Any, then: Any = None) -> None:
        node = program.node
        id_ = f"{int(node.clock() * 1000):011x}-{len(self.world.history):x}"
        entry = open_entry(id_, at_s=node.clock(), outcome="top_up" if isinstance(control, TopUp) else "stop")

        def run() -> None:
            program.operate(lambda ledger: ledger.write_control(control, entry))
            if then is not None:
                then()

        self.world.spawn(node, f"operator {control.id}", run)

    def _end_all(self) -> None:
        for program in self._all:
            program.node.is_leaving = True

    def _audit(self) -> None:
        """
        A process that comes when all others are gone: what it finds must be whole.
        """
        for program in self._all:
            if not program.node.is_dead:
                raise Wrong(f"{program.node.name} does not come to its end")
        auditor = Node(self.world, "auditor", seed=self.scenario.seed)
        if self.store.network is not None:
            self.store.network.is_calm = True
        self.world.spawn(auditor, "audit", partial(self._look, auditor))

    def _look(self, auditor: Node) -> None:
        auditor.ledger = self.store.open(auditor)
        for _ in range(4):
            auditor.ledger.sweep(now=auditor.clock())
            auditor.sleep(SWEEP_S)
        others = {"stop", "top_up"}
        entries = [
            entry for entry in read_all_entries(auditor.ledger, EVERYTHING) if entry.outcome not in others
        ]
        self.store.check_calls(Counter(entry.id for entry in entries))
        for entry in entries:
            story = self.oracle.stories.get(entry.id)
            if story is not None and (self.store.has_calls or story.is_whole):
                self.oracle.check_entry(story, entry)
        self.store.check()
        for balance in auditor.ledger.balances():
            if balance.pending:
                raise Wrong(f"{balance.pending} is pending on {balance.key}, and all is over")
        self._compare_with_truth(auditor)
        auditor.leave()
        self.world.stop()

    def _compare_with_truth(self, auditor: Node) -> None:
        spent = {balance.key: balance.spent for balance in auditor.ledger.balances()}
        for key, truth in self.oracle.truth.items():
            if "/rolling " in key.rule:
                continue
            if spent.get(key, 0) < truth:
                raise Lost(f"Bedrock has billed {truth}, and {spent.get(key, 0)} is spent on {key}")
        count = LedgerKey("count", "requests", (), 0)
        self.oracle.counts["spent"] += spent.get(count, 0)
        self.oracle.counts["truth"] += self.oracle.truth[count]
