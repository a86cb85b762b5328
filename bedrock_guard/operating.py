"""
What people do to the calls of all programs that share a ledger: stop, resume, top up.

Each of these is one write, of the control and of the journal's entry that says who and why.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.calls.steering import write_control
from bedrock_guard.checks import check_moment, check_tag_mapping
from bedrock_guard.domain.budget import Budget, Limit, Window, parse_limit, show_amount
from bedrock_guard.domain.control import BREAKER, Control, Controls, Stop, TopUp, is_in_force
from bedrock_guard.domain.entry import Outcome
from bedrock_guard.domain.globs import Globs, read_match
from bedrock_guard.domain.ledger import Clock, Ledger
from bedrock_guard.errors import ConfigurationError

# A record is read by every program, and is one item of a table.
_LONGEST: Final = 500
# What breaks a line of those who list controls, or cannot be written at all: control characters, surrogates.
_NO_TEXT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
# Later than any stop is meant to last, and a moment in every zone.
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)


class Operator:
    """
    The hand of a person, or of a rule, on one ledger.
    """

    def __init__(self, ledger: Ledger, matcher: Matcher, clock: Clock) -> None:
        self._ledger = ledger
        self._matcher = matcher
        self._clock = clock

    def controls(self) -> Controls:
        """
        What is in force; see `Guard.controls`.
        """
        now, found = self._clock(), self._ledger.controls()
        return Controls(
            found.version,
            tuple(stop for stop in found.stops if is_in_force(stop, now)),
            tuple(top_up for top_up in found.top_ups if is_in_force(top_up, now)),
        )

    def stop(
        self, match: Mapping[str, Globs], reason: str, *, until: datetime | None = None, by: str | None = None
    ) -> str:
        """
        See `Guard.stop`.
        """
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigurationError(
                f"reason is {reason!r}; a stop says why: those who are refused will read it."
            )
        now = self._clock()
        stop = Stop(
            id=_new_id("stop"),
            match=_plain(match),
            reason=_check_text("reason", reason),
            by=_who(by),
            at_s=now,
            until_s=_read_until(until, now),
        )
        self._write(stop, "stop", now)
        return stop.id

    def resume(
        self,
        id: str | None,  # noqa: A002 - a stop's own word
        match: Mapping[str, Globs] | None,
        *,
        by: str | None = None,
    ) -> tuple[str, ...]:
        """
        See `Guard.resume`.
        """
        if (id is None) == (match is None):
            raise ConfigurationError("resume takes the id of a stop, or the match that it was made with.")
        stops = self.controls().stops
        wanted = None if match is None else _plain(match)
        meant = [stop for stop in stops if stop.id == id or (match is not None and stop.match == wanted)]
        if not meant:
            what = f"with match {dict(match)}" if match is not None else f"{id!r}"
            known = ", ".join(f"{stop.id} ({dict(stop.match) or 'all calls'})" for stop in stops) or "none"
            raise ConfigurationError(f"There is no stop {what}. In force: {known}.")
        now, who = self._clock(), _who(by)
        for stop in meant:
            self._write(replace(stop, until_s=now), "resume", now, by=who)
        return tuple(stop.id for stop in meant)

    def top_up(
        self,
        budget: str,
        amount: str,
        *,
        per: Mapping[str, str] | None = None,
        until: datetime | None = None,
        reason: str = "",
        by: str | None = None,
    ) -> str:
        """
        See `Guard.top_up`.
        """
        now = self._clock()
        found = self._find_budget(budget)
        limit = _read_amount(amount, found)
        rule, window = self._matcher.current(found, now)
        top_up = TopUp(
            id=_new_id("top-up"),
            budget=found.name,
            rule=rule,
            per=_read_per(found, per),
            window_start=window.start,
            amount=limit.amount,
            reason=_check_text("reason", reason),
            by=_who(by),
            at_s=now,
            until_s=_end_of_top_up(found, window, _read_until(until, now), now),
        )
        self._write(top_up, "top_up", now)
        return top_up.id

    def _find_budget(self, name: str) -> Budget:
        for budget in self._matcher.budgets:
            if budget.name == name:
                return budget
        known = ", ".join(map(str, self._matcher.budgets)) or "none"
        raise ConfigurationError(f"There is no budget {name!r}; there are: {known}.")

    def _write(self, control: Control, outcome: Outcome, now: float, *, by: str | None = None) -> None:
        write_control(self._ledger, control, outcome, now=now, by=by)


def _new_id(kind: str) -> str:
    # Short, for people type it: at most a few hundred are in force.
    return f"{kind}-{os.urandom(4).hex()}"


def _who(by: str | None) -> str:
    if by is not None:
        if not isinstance(by, str) or not by:
            raise ConfigurationError(f"by is {by!r}; it names who does this.")
        if by.startswith(BREAKER):
            raise ConfigurationError(
                f"by is {by!r}, which is how breakers are named; it names who does this."
            )
        return _check_text("by", by)
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        user = f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"[:_LONGEST]


def _plain(match: Mapping[str, Any]) -> dict[str, Any]:
    """
    As it comes back from a ledger: lists, not tuples.

    Raises:
        ConfigurationError: It cannot be understood.
    """
    if not isinstance(match, Mapping) or not all(isinstance(tag, str) and tag for tag in match):
        raise ConfigurationError(f"match is {match!r}; it maps tags to globs: {{'workflow': 'nightly*'}}.")
    text = _check_text("match", json.dumps(read_match("A stop", match), ensure_ascii=False))
    plain: dict[str, Any] = json.loads(text)
    return plain


def _check_text(name: str, text: object) -> str:
    if not isinstance(text, str) or len(text) > _LONGEST or _NO_TEXT.search(text):
        raise ConfigurationError(f"{name} is {text!r}; it is one line of {_LONGEST} characters at most.")
    return text


def _read_until(until: datetime | None, now: float) -> float | None:
    moment = check_moment("until", until)
    if moment is None:
        return None
    if moment.timestamp() <= now:
        raise ConfigurationError(f"until is {moment}, which has passed.")
    if moment > _LATEST:
        raise ConfigurationError(f"until is {moment}; it is before {_LATEST:%Y}, or left out for no end.")
    return moment.timestamp()


def _read_amount(text: str, budget: Budget) -> Limit:
    unit = budget.limit.unit
    if budget.limit.period.kind == "rate":
        raise ConfigurationError(
            f"{budget} is a rate, which time refills, and cannot be topped up: raise its limit or its burst."
        )
    limit = None
    with suppress(ConfigurationError):  # the grammar of limits would be too much to say
        limit = parse_limit(text)
    if limit is None or limit.period.unit != "lifetime" or limit.unit != unit or not limit.amount:
        example = show_amount(budget.limit.amount, unit) if budget.limit.amount else f"1 {unit}"
        raise ConfigurationError(
            f"{text!r} cannot top up {budget}: it is an amount above 0 in its unit, without a period: "
            f"'{example}'."
        )
    return limit


def _read_per(budget: Budget, per: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    given = dict(check_tag_mapping("per", per or {}))
    if set(given) == set(budget.per):
        return tuple(sorted((tag, _check_text(f"per[{tag!r}]", value)) for tag, value in given.items()))
    if not budget.per:
        raise ConfigurationError(f"{budget} keeps one balance; leave per={given} out.")
    example = {tag: given.get(tag, "...") for tag in budget.per}
    raise ConfigurationError(
        f"{budget} keeps a balance for each {', '.join(budget.per)}: say whose, per={example} "
        '("" is that of calls without the tag).'
    )


def _end_of_top_up(budget: Budget, window: Window, until_s: float | None, now: float) -> float | None:
    """
    A top-up is money, not a rate of it: what the next window may spend is a new limit's to say.

    What rolls has no next window: there it ends when what is spent now has left.
    """
    period = budget.limit.period
    end = now + period.seconds if period.kind == "rolling" else window.end
    if end is None or until_s is None:
        return end if until_s is None else until_s
    if until_s > end:
        ends = datetime.fromtimestamp(end).astimezone()
        raise ConfigurationError(
            f"until is later than {ends}, when the window of {budget} ends, and a top-up with it. "
            "For more in every window, raise the limit."
        )
    return until_s
