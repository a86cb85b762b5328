"""
What is to happen in one simulation, as the seed says: all of it is known before it begins.

So it can be taken apart: a scenario that fails is tried again with less in it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from bedrock_guard.domain.ledger import LedgerKey, Line, OnExpiry

Profile: TypeAlias = Literal["calm", "usual", "storm"]
EventKind: TypeAlias = Literal["kill", "deploy", "freeze", "cut", "step", "top_up", "stop", "policy", "fork"]
PROFILES: dict[Profile, float] = {"calm": 0.0, "usual": 0.25, "storm": 1.0}

LASTS_S = 420.0
WINDOW_S = 180
HOLD_S = 45.0
ROLL_S = 120


class CallPlan(NamedTuple):
    """
    One call that a program makes.

    Attributes:
        slot: Of which process.
        estimate: The most that it is thought to cost; `cost` is what it does, which may be more.
        team: Whose balance it counts towards beside that of all, and that of its user.
        takes_s: How long Bedrock takes.
        outcome: `lost`: Bedrock bills, and its answer does not arrive.
        more: By how much it is extended while it is under way; 0 for not.
        extra: What it is charged beside, to a balance of which it had reserved nothing.
        is_renewed: Whether its hold lasts as long as it does; else it is settled after it has expired.
        strike: Where Ctrl-C strikes: in its reserve where it is positive, in its end where it is negative;
            0 for nowhere.
    """

    number: int
    slot: int
    at_s: float
    team: int
    estimate: int
    cost: int
    takes_s: float
    outcome: Literal["answered", "rejected", "lost"]
    more: int = 0
    on_expiry: OnExpiry = "charge"
    extra: int = 0
    is_renewed: bool = True
    strike: int = 0


class Event(NamedTuple):
    """
    What befalls a process, or what an operator does.

    Attributes:
        amount: Seconds; of a top-up money, and of a policy by how much its limits are multiplied.
    """

    kind: EventKind
    at_s: float
    slot: int
    amount: float


class Clock(NamedTuple):
    offset_s: float
    drift: float


@dataclass(frozen=True)
class Scenario:
    """
    Everything that happens.

    Attributes:
        ledger: Of which kind: a name of `stores.STORES`.
        network: How often something happens to a message, by kind.
        muted: Messages to which nothing happens, and kinds that do not happen.
    """

    seed: int
    ledger: str
    profile: Profile
    clocks: tuple[Clock, ...]
    calls: tuple[CallPlan, ...]
    events: tuple[Event, ...]
    limits: tuple[int, ...]
    network: tuple[tuple[str, float], ...]
    has_rolling: bool
    has_rate: bool
    muted: frozenset[str] = frozenset()

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}, {self.ledger}, {self.profile}: {len(self.calls)} calls of {len(self.clocks)} processes"
        ]
        happens = sorted([*self.calls, *self.events], key=lambda each: each.at_s)
        return "\n".join([*lines, *(f"    {each}" for each in happens)])


def make(seed: int, ledger: str, network: dict[str, float], *, calls: int = 110) -> Scenario:
    """
    The scenario of *seed*.
    """
    dice = random.Random(f"{ledger}/{seed}")
    profile: Profile = dice.choices(list(PROFILES), [1, 3, 4])[0]
    share = PROFILES[profile]
    slots = dice.randint(2, 5)
    odd = random.Random(f"{ledger}/{seed}/odd")
    plans = tuple(_odd(odd, _call(dice, number, slots)) for number in range(calls))
    events = (*_events(dice, slots, share), *_odd_events(odd, slots))
    return Scenario(
        seed=seed,
        ledger=ledger,
        profile=profile,
        clocks=tuple(
            Clock(dice.uniform(-15, 15) * share, dice.uniform(-1e-3, 1e-3) * share) for _ in range(slots)
        ),
        calls=tuple(sorted(plans, key=lambda plan: plan.at_s)),
        events=tuple(sorted(events, key=lambda event: event.at_s)),
        # Of all, in each window; of each team, for ever; of each user. They are reached.
        limits=(dice.randint(300, 900), dice.randint(500, 1500), dice.randint(60, 200)),
        network=tuple((kind, rate * share) for kind, rate in network.items() if share),
        has_rolling=dice.random() < 0.3,
        has_rate=dice.random() < 0.2,
    )


def _call(dice: random.Random, number: int, slots: int) -> CallPlan:
    estimate = dice.randint(1, 60)
    at_s = _moment(dice)
    return CallPlan(
        number,
        dice.randrange(slots),
        at_s,
        team=dice.randrange(3),
        estimate=estimate,
        cost=dice.choice([estimate, dice.randint(0, estimate), dice.randint(0, estimate)]),
        takes_s=dice.choice([dice.uniform(0.2, 3), dice.uniform(0.2, 3), dice.uniform(5, 2.5 * HOLD_S)]),
        outcome=dice.choices(["answered", "rejected", "lost"], [8, 1, 1])[0],  # type: ignore[arg-type]
        more=dice.randint(1, 30) if dice.random() < 0.15 else 0,
        on_expiry="release" if dice.random() < 0.03 else "charge",
    )


def _odd(dice: random.Random, plan: CallPlan) -> CallPlan:
    """
    *plan*, perhaps with what hardly any call does.
    """
    is_answered = plan.outcome == "answered"
    if is_answered and dice.random() < 0.06:
        plan = plan._replace(cost=plan.estimate + dice.randint(1, 40))
    if is_answered and dice.random() < 0.06:
        plan = plan._replace(extra=dice.randint(1, 20))
    if dice.random() < 0.06:
        plan = plan._replace(is_renewed=False, takes_s=dice.uniform(HOLD_S, 2 * HOLD_S))
    if dice.random() < 0.06:
        plan = plan._replace(strike=dice.choice([1, -1]) * round(1 + 400 * dice.random() ** 2))
    return plan


def _odd_events(dice: random.Random, slots: int) -> list[Event]:
    found: list[Event] = []
    kinds: tuple[tuple[EventKind, float, float], ...] = (("policy", 0.3, 1.7), ("fork", 1, 1))
    for kind, low, high in kinds:
        found.extend(
            Event(kind, _moment(dice), dice.randrange(slots), dice.uniform(low, high))
            for _ in range(dice.randint(0, 2))
        )
    return found


def _moment(dice: random.Random) -> float:
    """
    Any; but much comes together, as in a busy program.
    """
    if dice.random() < 0.5:
        return dice.uniform(0, LASTS_S)
    return 20 * dice.randrange(int(LASTS_S / 20)) + dice.random() / 10


def _events(dice: random.Random, slots: int, share: float) -> list[Event]:
    found: list[Event] = []

    def add(kind: EventKind, most: float, low: float, high: float) -> None:
        times = dice.randint(0, round(most))
        found.extend(
            Event(kind, _moment(dice), dice.randrange(slots), dice.uniform(low, high)) for _ in range(times)
        )

    add("kill", 8 * share, 0.5, 10)
    add("deploy", 2, 0.5, 5)
    add("freeze", 4 * share, 1, 2 * HOLD_S)
    add("cut", 3 * share, 1, 40)
    add("step", 2 * share, -20, 20)
    add("top_up", 2, 20, 200)
    add("stop", 1, 100, 160)
    return found


def lines_of(
    scenario: Scenario, plan: CallPlan, now: float, amount: int, *, factor: float = 1.0
) -> list[Line]:
    """
    What a call counts towards, by the clock of its process, whose policy has *factor* times the limits.
    """
    start = int(now // WINDOW_S * WINDOW_S)
    limits = [round(limit * factor) for limit in scenario.limits]
    found = [
        Line(LedgerKey("all", "USD/3 minutes@UTC", (), start), limits[0], amount),
        Line(LedgerKey("team", "USD", (("team", str(plan.team)),), 0), limits[1], amount),
        # Hardly made when it is full: those of one user call together.
        Line(LedgerKey("user", "USD", (("user", str(plan.at_s // 20)),), 0), limits[2], amount),
        Line(LedgerKey("count", "requests", (), 0), None, amount),
    ]
    if scenario.has_rolling:
        step = ROLL_S // 30
        key = LedgerKey("roll", "USD/rolling 2 minutes", (), int(now // step * step))
        found.append(Line(key, limits[0], amount, kind="rolling", span_s=ROLL_S))
    if scenario.has_rate:
        key = LedgerKey("rate", "USD/minute rate", (), 0)
        found.append(Line(key, 200, amount, kind="rate", span_s=60, refill=200))
    return found


def extra_key(plan: CallPlan, now: float) -> LedgerKey:
    """
    What a call is charged beside: to the balance of another team, to one that nobody reserves, or to what rolls.
    """
    step = ROLL_S // 30
    return (
        LedgerKey("team", "USD", (("team", str((plan.team + 1) % 3)),), 0),
        LedgerKey("tools", "USD", (), 0),
        LedgerKey("tools", "USD/rolling 2 minutes", (), int(now // step * step)),
    )[plan.extra % 3]
