"""
What operators tell all programs that share a ledger: stops, and top-ups.

A ledger keeps them as one small record with a version. It knows no tags, so the
pipeline decides by a copy of the record, and `reserve` compares versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, TypeAlias, runtime_checkable

from bedrock_guard.domain.globs import read_match
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable

if TYPE_CHECKING:
    from bedrock_guard.domain.entry import Entry

# Every program reads the whole record, again and again.
MOST_CONTROLS: Final = 200
# An item of DynamoDB has 400 KB.
MOST_BYTES: Final = 350_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """
    No call that matches is admitted.

    Attributes:
        id: By which it is resumed.
        match: Tag -> glob, as a budget's; empty: every call.
        reason: Why, for who is refused and for the journal.
        by: Who stopped.
        at_s: Since when, seconds since 1970.
        until_s: When it passes by itself; None: when somebody resumes.
    """

    id: str
    match: Mapping[str, Any]
    reason: str
    by: str
    at_s: float
    until_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TopUp:
    """
    The limit of one balance is *amount* higher, for the rest of its window at most.

    Attributes:
        budget, rule, per, window_start: Whose balance, as in `LedgerKey`.
        amount: In the unit of *rule*; USD in nano-dollars.
        reason, by, at_s: As of a stop.
        until_s: When it passes; None for a window that never ends.
    """

    id: str
    budget: str
    rule: str
    per: tuple[tuple[str, str], ...]
    window_start: int
    amount: int
    reason: str
    by: str
    at_s: float
    until_s: float | None = None


BREAKER: Final = "breaker:"
"""How a breaker is named where budgets and people are too: in ledger keys, stops, entries and alerts."""

Control: TypeAlias = Stop | TopUp


@dataclass(frozen=True, slots=True)
class Controls:
    """
    The record: what is in force, and what has passed since it was last written.

    Attributes:
        version: Of each writing another; 0 before the first.
    """

    version: int = 0
    stops: tuple[Stop, ...] = ()
    top_ups: tuple[TopUp, ...] = ()

    def with_(self, control: Control, *, now: float) -> Self:
        """
        The next version: with *control* in place of the one of its id, and without what has passed.

        Raises:
            LedgerUnavailable: There would be too many.
        """
        before: tuple[Control, ...] = (*self.stops, *self.top_ups)
        others = (each for each in before if each.id != control.id)
        kept = [each for each in (*others, control) if is_in_force(each, now)]
        if len(kept) > MOST_CONTROLS:
            raise LedgerUnavailable(
                f"{MOST_CONTROLS} stops and top-ups are in force, and a ledger keeps no more: resume some, "
                "or stop with globs."
            )
        stops = tuple(each for each in kept if isinstance(each, Stop))
        top_ups = tuple(each for each in kept if isinstance(each, TopUp))
        after = type(self)(self.version + 1, stops, top_ups)
        if len(after.to_json().encode()) > MOST_BYTES:
            raise LedgerUnavailable(
                f"Stops and top-ups would be more than {MOST_BYTES:,} bytes, and a ledger keeps no more: "
                "resume some, or say why in fewer words."
            )
        return after

    def to_json(self) -> str:
        """
        Stops and top-ups as one line of JSON; the version is stored beside it.
        """
        record = {"stops": [*map(asdict, self.stops)], "top_ups": [*map(asdict, self.top_ups)]}
        return json.dumps(record, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, version: int, text: str) -> Self:
        """
        Back from `to_json`; fields of a newer version are left out.

        Raises:
            LedgerUnavailable: It cannot be read, so that nobody knows who is stopped.
        """
        try:
            record = json.loads(text)
            stops = tuple(Stop(**_known(Stop, values)) for values in record.get("stops", ()))
            for stop in stops:
                read_match(stop.id, stop.match)
            top_ups = tuple(
                TopUp(**{**_known(TopUp, values), "per": tuple((tag, value) for tag, value in values["per"])})
                for values in record.get("top_ups", ())
            )
        except (ValueError, TypeError, AttributeError, KeyError, ConfigurationError) as error:
            raise unreadable(error) from error
        return cls(version, stops, top_ups)


@dataclass(frozen=True, slots=True)
class ControlsChanged:
    """
    Nothing was reserved: the ledger keeps another version than the caller decided by.
    """


CHANGED: Final = ControlsChanged()


class KeepsControls(Protocol):
    """
    The part of a ledger that keeps stops and top-ups.
    """

    def controls(self) -> Controls:
        """
        The record as it is; a ledger that others share over a network may give a copy that is
        `control_refresh_s` old.
        """
        ...

    def write_control(self, control: Control, entry: Entry) -> int:
        """
        Put *control* into the record, in place of the one of its id, and *entry* into the journal, both or
        neither; one that has passed is taken out. The same entry id again changes nothing.

        Returns the new version.
        """
        ...


@runtime_checkable
class RefreshesControls(Protocol):
    """
    A ledger that keeps a copy of the record is told how old it may be.
    """

    def refresh_controls(self, seconds: float) -> None:
        """
        Read the record again once the copy is *seconds* old; of several wishes the shortest holds.
        """
        ...

    def forget_controls(self) -> None:
        """
        Read the record again with the next question, whatever the copy's age.
        """
        ...


def unreadable(error: Exception) -> LedgerUnavailable:
    """
    What to raise for a record that gives *error*.
    """
    return LedgerUnavailable(
        f"The ledger's record of stops and top-ups cannot be read ({error!r}): a newer bedrock_guard has "
        "written it, and this one is to be upgraded, or it is damaged, and to be put back from a copy."
    )


def is_in_force(control: Control, now: float) -> bool:
    """
    Whether *control* has not passed by itself.
    """
    return control.until_s is None or now < control.until_s


def is_of_breaker(control: Control) -> bool:
    """
    Whether *control* is a stop that a breaker made.
    """
    return isinstance(control, Stop) and control.by.startswith(BREAKER)


def as_mapping(control: Control) -> dict[str, Any]:
    """
    *control* as an entry tells it.
    """
    return {"kind": KINDS[type(control)], **asdict(control)}


KINDS: Final[dict[type[Control], Literal["stop", "top_up"]]] = {Stop: "stop", TopUp: "top_up"}


def _known(kind: type[Control], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in kind.__dataclass_fields__ if name in values}
