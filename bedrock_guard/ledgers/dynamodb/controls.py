"""
Stops and top-ups in a table: one item, which operators write and programs read; and one for the stops of
breakers, which programs write. For who reads them they are one record.

No condition of a call's transaction is on it: every call of a fleet would meet in one
partition. Instead each process has a copy, and reads it again before a call that finds
it older than `control_refresh_s`: also the first call after an idle hour pays for that, and
no call is admitted by what is older.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from bedrock_guard.domain.control import Control, Controls, is_of_breaker, unreadable
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Clock
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers.dynamodb import actions, items, reading
from bedrock_guard.ledgers.dynamodb.items import Item, Place
from bedrock_guard.ledgers.dynamodb.table import ConditionFailed, Table, Turn, code_of

# Until somebody says otherwise.
REFRESH_S: Final = 2.0
# Nobody has written since it was read.
IS_AS_READ: Final = "attribute_not_exists(#v) OR #v = :read"


class _Copy(NamedTuple):
    """
    The record, and when reading it began, by both clocks.
    """

    controls: Controls
    began_s: float
    began_at_s: float


class ControlsCopy:
    """
    What one process knows of the record.
    """

    def __init__(self, table: Table, clock: Clock) -> None:
        self._table = table
        self._clock = clock
        self._copy: _Copy | None = None
        self._is_wished = False
        self._most_s = REFRESH_S

    def refresh(self, seconds: float) -> None:
        """
        Read again what is *seconds* old; of several wishes the shortest holds.
        """
        self._most_s = min(self._most_s, seconds) if self._is_wished else seconds
        self._is_wished = True

    def forget(self) -> None:
        """
        Read again with the next question.
        """
        self._copy = None

    @property
    def fresh(self) -> Controls | None:
        """
        The record, if it is no older than was wished; without asking anybody.
        """
        return self.fresh_at(self._clock())

    def fresh_at(self, now: float) -> Controls | None:
        """
        As `fresh`, for who has just read the clock.
        """
        # By both clocks: one may be set back, and the other stand still while a process is frozen.
        copy = self._copy
        if copy is None:
            return None
        controls, began_s, began_at_s = copy
        most_s = self._most_s
        is_fresh = 0 <= now - began_at_s < most_s and time.monotonic() - began_s < most_s
        return controls if is_fresh else None

    @property
    def is_aging(self) -> bool:
        """
        Whether half of that time is over.
        """
        copy = self._copy
        return copy is not None and time.monotonic() - copy.began_s > self._most_s / 2

    @property
    def last(self) -> Controls | None:
        """
        The record as it was read last, however long ago.
        """
        return None if self._copy is None else self._copy.controls

    def read(self, turn: Turn) -> Controls:
        """
        The record, no older than was wished.
        """
        return self.fresh or self.read_anew(turn)

    def write(self, turn: Turn, control: Control, entry: Entry, *, kept: Item | None) -> int:
        """
        Put *control* into the record, and *entry* into the journal; the new version.
        """
        place = items.TRIPS_PLACE if is_of_breaker(control) else items.CONTROLS_PLACE
        while True:
            records = self._read_records(turn)
            before = records[place]
            after = before.with_(control, now=self._clock())
            try:
                self._table.transact(turn, self._actions(turn, place, (before, after), entry, kept))
            except ConditionFailed as failed:
                if failed.reasons[1].is_failed:  # it had been written, and the answer was lost
                    return self.read_anew(turn).version
                self._table.rest(turn)
            except LedgerUnavailable as error:
                if not code_of(error.__cause__).startswith("AccessDenied"):
                    raise
                raise LedgerUnavailable(f"{error} {_WHO_MAY[place]}", error.outcome) from error
            else:
                self._copy = None  # who has written it reads it as it is
                return _merge({**records, place: after}).version

    def read_anew(self, turn: Turn) -> Controls:
        """
        The record as it is now.
        """
        began_s, began_at_s = time.monotonic(), self._clock()
        controls = _merge(self._read_records(turn))
        if self._copy is None or self._copy.began_s <= began_s:  # another thread may have read since
            self._copy = _Copy(controls, began_s, began_at_s)
        return controls

    def _read_records(self, turn: Turn) -> dict[Place, Controls]:
        found = {item["pk"]["S"]: item for item in reading.get_all(self._table, _PLACES, turn)}
        return {place: _read_item(found.get(place[0])) for place in _PLACES}

    def _actions(
        self, turn: Turn, place: Place, change: tuple[Controls, Controls], entry: Entry, kept: Item | None
    ) -> list[Item]:
        before, after = change
        record = {
            **items.place_item(place),
            "v": items.number(after.version),
            "rec": {"S": after.to_json()},
        }
        told = {**actions.recorded_item(entry, by=turn.id), **({} if kept is None else {"ttl": kept})}
        values = {"read": items.number(before.version)}
        condition = actions.expressions(condition=IS_AS_READ, values=values)
        return [
            {"Put": {"TableName": self._table.name, "Item": record, **condition}},
            actions.open_action(self._table.name, items.place_of_call(entry.id), told),
        ]


def _read_item(item: Item | None) -> Controls:
    if item is None:
        return Controls()
    try:
        version, text = int(item["v"]["N"]), item["rec"]["S"]
    except (KeyError, ValueError) as error:
        raise unreadable(error) from error
    return Controls.from_json(version, text)


def _merge(records: Mapping[Place, Controls]) -> Controls:
    """
    One record of both; the one that programs write can only stop.
    """
    told, tripped = records[items.CONTROLS_PLACE], records[items.TRIPS_PLACE]
    stops = (*told.stops, *(stop for stop in tripped.stops if is_of_breaker(stop)))
    # A number for each pair: the sum might be that of another, as the two are not read in one moment.
    return Controls(told.version + (tripped.version << 32), stops, told.top_ups)


_PLACES: Final = (items.CONTROLS_PLACE, items.TRIPS_PLACE)
_WHO_MAY: Final[dict[Place, str]] = {
    items.CONTROLS_PLACE: (
        "Stops and top-ups are an operator's to write: programs that call Bedrock must not change what "
        "steers them. The template's OperatorPolicy allows it."
    ),
    items.TRIPS_PLACE: (
        "A breaker's stop is its program's to write: the template's WriterPolicy allows it; deploy it again."
    ),
}
