"""
What the processes of a fleet do: calls, and beside them what a guard does (renew, write ends anew, sweep).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from simulation.fleet.interrupts import interrupted
from simulation.fleet.nodes import Node
from simulation.fleet.oracle import Ending, Oracle, Story, Wrong
from simulation.fleet.scenario import HOLD_S, CallPlan, Scenario, extra_key, lines_of
from simulation.fleet.world import World

from bedrock_guard.budgets.steering import Steering
from bedrock_guard.domain.control import ControlsChanged
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Refusal, Reservation
from bedrock_guard.errors import LedgerUnavailable, ReservationClosed
from bedrock_guard.testing.ledger_calls import answered, open_entry

TAGS = {"team": "search"}
EVERY_S = 5.0
SWEEPS_EVERY_S = 20.0
# How long a program that is told to end tries to write what it knows.
LEAVES_WITHIN_S = 20.0


class Program:
    """
    One process.
    """

    def __init__(self, world: World, node: Node, scenario: Scenario, oracle: Oracle, store: Any) -> None:
        self.world, self.node = world, node
        self._scenario, self._oracle, self._store = scenario, oracle, store
        # Its policy's limits are so many times those of the scenario.
        self.factor = 1.0
        self._stories: list[Story] = []
        self._open: dict[str, Reservation] = {}
        self._unwritten: dict[str, Callable[[], None]] = {}
        self._under_way = 0
        self._swept_s = node.monotonic() - node.dice.uniform(0, SWEEPS_EVERY_S)

    def begin(self) -> None:
        """
        Open the ledger, which a fork has already, and look after it from then on.
        """
        if self.node.ledger is None:
            self.node.ledger = self._stubborn(lambda: self._store.open(self.node))
        else:
            for run in list(self.node.fork_hooks):
                run()
        while not self.node.is_leaving:
            self.node.sleep(EVERY_S)
            self._renew()
            self._write_ends()
            self._sweep()
        self._leave()

    def call(self, plan: CallPlan) -> None:
        """
        One guarded call, from its reservation to its end.
        """
        if self.node.is_leaving or self.node.ledger is None:
            return
        self._under_way += 1
        story, reservation = self._reserve(plan)
        if reservation is None:
            self._under_way -= 1
            return
        self._open[story.id] = reservation
        self.node.sleep(plan.takes_s / 2)
        if plan.more:
            self._extend(story, plan.more)
        if plan.outcome != "rejected":
            self._oracle.bill(story)
        self.node.sleep(plan.takes_s / 2)
        self._end(story)
        self._under_way -= 1

    def operate(self, work: Callable[[Any], object]) -> None:
        """
        Change the controls, as an operator's command does: once more where nobody knows.
        """
        self._stubborn(lambda: work(self.node.ledger))

    def _reserve(self, plan: CallPlan) -> tuple[Story, Reservation | None]:
        node, now, asked_s = self.node, self.node.clock(), 0.0
        id_ = f"{int(now * 1000):011x}-{plan.number:x}"
        lines = lines_of(self._scenario, plan, now, plan.estimate, factor=self.factor)
        story = self._oracle.begin(id_, plan, lines)
        story.at_s = now
        if plan.extra:
            story.extra = extra_key(plan, now)
        self._oracle.counts["calls"] += 1
        entry = open_entry(id_, at_s=now, estimated_cost_nanousd=plan.estimate)
        try:
            for _ in range(4):
                steering = Steering(node.ledger.controls())
                if steering.find_stop(TAGS, node.clock()):
                    self._oracle.counts["stopped"] += 1
                    return story, None
                asked_s = self.world.now
                asked = steering.top_up(lines, node.clock())
                story.caps |= {line.key: line.limit for line in asked if line.limit and line.kind != "rate"}
                reserve = partial(
                    node.ledger.reserve,
                    asked,
                    entry=entry,
                    hold_s=HOLD_S,
                    on_expiry=plan.on_expiry,
                    controls=steering.version,
                )
                answer = self._run(reserve, plan.strike)
                if not isinstance(answer, ControlsChanged):
                    break
        except KeyboardInterrupt:
            self.world.tell(f"{id_} reserve: interrupted")
            self._put_off(story, Reservation(id_, tuple(lines), now + HOLD_S), "released", 0, is_doubted=True)
            return story, None
        except LedgerUnavailable as error:
            self.world.tell(f"{id_} reserve: {error.outcome}")
            self._oracle.counts[f"reserve {error.outcome}"] += 1
            if error.outcome == "unknown":
                held = Reservation(id_, tuple(lines), now + HOLD_S)
                self._put_off(story, held, "released", 0, is_doubted=True)
            story.is_refused = error.outcome == "not_done"
            return story, None
        if not isinstance(answer, Reservation):
            story.is_refused = True
            self._oracle.counts["refused" if isinstance(answer, Refusal) else "undecided"] += 1
            self.world.tell(f"{id_} {type(answer).__name__}")
            return story, None
        self.world.tell(f"{id_} holds {plan.estimate}")
        story.lines = answer.lines
        self._stories.append(story)
        self._oracle.admit(story, asked_s)
        self._store.check_admitted(node, story)
        return story, answer

    def _run(self, work: Callable[[], Any], strike: int) -> Any:
        """
        *work*; where *strike* is positive, Ctrl-C strikes in it, unless it is over before.
        """
        if strike <= 0:
            return work()
        try:
            return interrupted(self.world, work, strike)
        except KeyboardInterrupt:
            self._oracle.counts["interrupt"] += 1
            raise

    def _extend(self, story: Story, more: int) -> None:
        lines = [line._replace(amount=more) for line in self._open[story.id].lines]
        for line in lines:
            story.asked[line.key] += more
        try:
            answer = self.node.ledger.extend(self._open[story.id], lines, hold_s=HOLD_S)
        except (LedgerUnavailable, ReservationClosed) as error:
            self.world.tell(f"{story.id} extend: {type(error).__name__}")
            return
        if isinstance(answer, Reservation):
            self._open[story.id] = answer
            story.lines = answer.lines

    def _end(self, story: Story) -> None:
        plan = story.plan
        end, amount = ("released", 0) if plan.outcome == "rejected" else ("settled", plan.cost)
        if plan.outcome == "lost":
            amount = plan.estimate
        reservation = self._open.pop(story.id)
        try:
            self._write(story, reservation, end, amount, strike=-plan.strike)  # type: ignore[arg-type]
        except (LedgerUnavailable, KeyboardInterrupt) as error:
            self.world.tell(f"{story.id} {end}: {getattr(error, 'outcome', 'interrupted')}")
            self._put_off(story, reservation, end, amount)  # type: ignore[arg-type]

    def _write(
        self,
        story: Story,
        reservation: Reservation,
        end: Ending,
        amount: int,
        *,
        is_doubted: bool = False,
        strike: int = 0,
    ) -> None:
        if (end, amount) not in story.tried:
            story.tried.append((end, amount))
            if end == "settled":
                self._oracle.risk(story, amount)
        ledger = self.node.ledger
        if end == "settled":
            entry = answered(story.id, at_s=story.at_s, cost_nanousd=amount)
            write = partial(ledger.settle, reservation, story.charged(amount), entry)
        else:
            write = partial(ledger.release, reservation, _not_sent(story))
        try:
            how = self._run(write, strike).how
        except ReservationClosed as error:
            if not is_doubted:
                raise Wrong(f"{story.id} cannot be {end}: {error}") from error
            return  # it never arrived, and never will
        self._oracle.counts[how] += 1
        if end == "settled":
            self._oracle.counts["unexpected"] += story.extra is not None
            self._oracle.counts["overrun"] += any(amount > line.amount for line in story.lines)
        story.told = end, amount
        self._store.told(story)
        self.world.tell(f"{story.id} {how} at {amount}")

    def _put_off(
        self, story: Story, reservation: Reservation, end: Ending, amount: int, *, is_doubted: bool = False
    ) -> None:
        self._unwritten[story.id] = lambda: self._write(
            story, reservation, end, amount, is_doubted=is_doubted
        )

    def _write_ends(self) -> None:
        for id_, write in list(self._unwritten.items()):
            try:
                write()
            except LedgerUnavailable as error:
                self.world.tell(f"{id_} again: {error.outcome}")
                return
            self._unwritten.pop(id_, None)

    def _renew(self) -> None:
        now = self.node.clock()
        for id_, reservation in list(self._open.items()):
            story = self._oracle.stories[id_]
            if not story.plan.is_renewed or reservation.expires_at_s - now > HOLD_S / 2:
                continue
            try:
                longer = self.node.ledger.extend(reservation, hold_s=HOLD_S)
            except (LedgerUnavailable, ReservationClosed):
                continue
            if id_ in self._open:
                self._open[id_] = longer

    def _sweep(self) -> None:
        if self.node.monotonic() - self._swept_s < SWEEPS_EVERY_S:
            return
        self._swept_s = self.node.monotonic()
        try:
            report = self.node.ledger.sweep(now=self.node.clock())
        except LedgerUnavailable:
            return
        self._oracle.counts["swept"] += report.charged + report.released
        self.world.tell(f"{self.node.name} swept {report.charged} {report.released}")

    def _leave(self) -> None:
        until_s = self.node.monotonic() + LEAVES_WITHIN_S
        while (self._unwritten or self._under_way) and self.node.monotonic() < until_s:
            self._write_ends()
            self.node.sleep(0.5)
        self.node.leave()
        is_whole = not self._unwritten and not self._under_way and self._store.is_whole(self.node)
        for story in self._stories:
            story.is_whole = is_whole
        self.node.kill("exits")

    def _stubborn(self, work: Callable[[], Any]) -> Any:
        while True:
            try:
                return work()
            except LedgerUnavailable:
                self.node.sleep(1.0)


def _not_sent(story: Story) -> Entry:
    return replace(open_entry(story.id, at_s=story.at_s), outcome="rejected", cost_nanousd=0)
