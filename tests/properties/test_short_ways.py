"""
The usual call goes a short way through a ledger, and comes to what the long way does, whatever came before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import LedgerKey, Line, OnExpiry, RefusedLine, Reservation, Settled
from bedrock_guard.errors import GuardError
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.leases.local import Local
from bedrock_guard.ledgers.leases.purses import Call
from bedrock_guard.ledgers.leases.slices import Others
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.testing.ledger_calls import CALLS, DAY, NOW, TEAM, SetClock, answered, open_entry

KEYS: Final = (DAY, TEAM, CALLS)
IDS: Final = tuple("abcdefgh")
# Keys come as the very same objects, most of the time, and as equal ones.
_key = st.one_of(st.sampled_from(KEYS), st.sampled_from(KEYS).map(lambda key: LedgerKey(*key)))
_odd_line = st.builds(
    Line,
    _key,
    st.sampled_from([None, 400, 1000]),
    st.integers(-1, 200),
    st.just("window"),
    st.sampled_from([True, True, False]),
)
_of_each = st.tuples(*[st.integers(0, 60)] * 3)
_usual_lines = _of_each.map(
    lambda amounts: tuple(Line(key, 1000, amount) for key, amount in zip(KEYS, amounts, strict=True))
)
# One thing of them is not as usual: the order, a limit, or what is done above it.
_near_lines = st.tuples(
    _usual_lines,
    st.permutations(range(3)),
    st.integers(0, 2),
    st.sampled_from([None, 400, 1000]),
    st.booleans(),
).map(
    lambda found: tuple(
        found[0][place]._replace(limit=found[3], enforce=found[4]) if place == found[2] else found[0][place]
        for place in found[1]
    )
)
_lines = st.one_of(_usual_lines, _near_lines, _near_lines, st.lists(_odd_line, max_size=4).map(tuple))
_usual_amounts = _of_each.map(lambda found: dict(zip(KEYS, found, strict=True)))
_odd_amounts = st.dictionaries(_key, st.sampled_from([-1, 0, 5, 40, 2**63 - 1, 2**63]), max_size=3)
_amounts = st.one_of(_usual_amounts, _odd_amounts)
_id = st.sampled_from(IDS)
_usual_step = st.tuples(st.just("call"), _usual_lines, _usual_amounts)
_odd_step = st.one_of(
    st.tuples(st.just("hold"), _id, _lines),
    st.tuples(st.just("end"), _id, st.sampled_from(["settled", "released"]), _amounts),
    st.tuples(st.just("call"), _lines, _amounts),
    st.tuples(st.just("more"), _id, _lines),
    st.tuples(st.just("less"), _id, _usual_lines),
    st.tuples(st.just("undo"), _id),
    st.tuples(st.just("expire"), st.integers(0, 3)),
    st.tuples(st.just("grant"), _key, st.integers(0, 1200)),
    st.tuples(st.just("give_up"), _key, st.integers(0, 20)),
    st.tuples(st.just("forget"), _key),
)
_steps = st.lists(st.one_of(_usual_step, _usual_step, _odd_step), min_size=12, max_size=40)


class LongWay(Local):
    """
    As `Local` would be without its short ways.
    """

    def hold(
        self,
        entry: Entry,
        lines: tuple[Line, ...],
        expires_at_s: float,
        on_expiry: OnExpiry,
        over: list[RefusedLine],
    ) -> Call | None:
        return self._hold_any(entry, lines, expires_at_s, on_expiry, over)

    def end(
        self, id_: str, state: books.State, amounts: Mapping[LedgerKey, int], entry: Entry | None
    ) -> tuple[books.How, bool] | None:
        return self._end_any(id_, state, amounts, entry)


class LongMemory(MemoryLedger):
    """
    As `MemoryLedger` would be without its short way.
    """

    def settle(self, reservation: Reservation, amounts: Mapping[LedgerKey, int], entry: Entry) -> Settled:
        return self._close(reservation.id, "settled", amounts, entry)


class OnSlices:
    """
    What is asked of the calls of one process.
    """

    def __init__(self, local: Local) -> None:
        self.local = local
        self.calls = 0
        local._sequence = 0
        for key in KEYS:
            local.grant(key, 1000, 0)
        local.soft[TEAM] = Others(700, 500, 2, 0.0)

    def call(self, lines: tuple[Line, ...], amounts: dict[LedgerKey, int]) -> object:
        self.calls += 1
        return self.hold(f"{self.calls}", lines), self.end(f"{self.calls}", "settled", amounts)

    def hold(self, id_: str, lines: tuple[Line, ...]) -> object:
        over: list[RefusedLine] = []
        return _plain(self.local.hold(open_entry(id_), lines, NOW + 60, "charge", over)), over

    def end(self, id_: str, state: books.State, amounts: dict[LedgerKey, int]) -> object:
        return self.local.end(id_, state, amounts, answered(id_))

    def more(self, id_: str, lines: tuple[Line, ...]) -> object:
        over: list[RefusedLine] = []
        return _plain(self.local.hold_more(id_, books.merge(lines), NOW + 90, over)), over

    def less(self, id_: str, lines: tuple[Line, ...]) -> object:
        return self.local.hold_less(id_, tuple(line._replace(amount=0) for line in lines))

    def expire(self, limit: int) -> object:
        return self.local.expire(NOW + 90, limit, is_elsewhere=lambda _: False)

    def grant(self, key: LedgerKey, granted: int) -> object:
        return self.local.grant(key, granted, 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.local, name)

    @property
    def known(self) -> object:
        local = self.local
        return (
            {key: (purse.granted, purse.sums) for key, purse in local._purses.items()},
            {id_: _plain(call) for id_, call in local._open.items()},
            [(id_, _plain(call)) for id_, call in local._ended.items()],
            (local._sequence, local._noted, local.notes, local.strangers),
        )


class InMemory:
    """
    What is asked of a ledger in memory; of slices it knows nothing.
    """

    def __init__(self, ledger: MemoryLedger) -> None:
        self.ledger = ledger
        self.calls = 0

    def call(self, lines: tuple[Line, ...], amounts: dict[LedgerKey, int]) -> object:
        self.calls += 1
        return self.hold(f"{self.calls}", lines), self.end(f"{self.calls}", "settled", amounts)

    def hold(self, id_: str, lines: tuple[Line, ...]) -> object:
        return self.ledger.reserve(lines, entry=open_entry(id_), hold_s=60.0, on_expiry="charge")

    def end(self, id_: str, state: books.State, amounts: dict[LedgerKey, int]) -> object:
        held = Reservation(id_, (), NOW)
        if state == "settled":
            return self.ledger.settle(held, amounts, answered(id_))
        return self.ledger.release(held, answered(id_))

    def more(self, id_: str, lines: tuple[Line, ...]) -> object:
        return self.ledger.extend(Reservation(id_, (), NOW), lines, hold_s=90.0)

    def expire(self, limit: int) -> object:
        return self.ledger.sweep(now=NOW + 90, limit=limit)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None

    @property
    def known(self) -> object:
        ledger = self.ledger
        return ledger._balances, ledger._open, ledger._ended, ledger._sequence, ledger._noted


@settings(max_examples=120, deadline=None)
@given(_steps)
def test_a_call_on_slices_comes_to_the_same(steps: list[tuple[Any, ...]]) -> None:
    """
    What each step says, and all that is known after it.
    """
    _compare(OnSlices(Local(SetClock())), OnSlices(LongWay(SetClock())), steps)


@settings(max_examples=60, deadline=None)
@given(_steps)
def test_a_call_in_memory_comes_to_the_same(steps: list[tuple[Any, ...]]) -> None:
    """
    As above.
    """
    _compare(InMemory(MemoryLedger(clock=SetClock())), InMemory(LongMemory(clock=SetClock())), steps)


def _compare(short: Any, long: Any, steps: list[tuple[Any, ...]]) -> None:
    for step in steps:
        assert _said(short, *step) == _said(long, *step), step
        assert short.known == long.known, step


def _said(ledger: object, what: str, *arguments: Any) -> object:
    try:
        return getattr(ledger, what)(*arguments)
    except GuardError as error:
        return type(error), str(error)


def _plain(call: Call | None) -> object:
    return None if call is None else call._replace(purses=[purse.key for purse in call.purses])
