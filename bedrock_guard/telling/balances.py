"""
Balances that calls have changed, read again beside the calls: what they have come to, and what is to be
told of them with the figures that they have by then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from bedrock_guard.budgets.alerting import balance_alert, keys_of, news_of, reached, spent_of
from bedrock_guard.budgets.matching import Match, Matcher
from bedrock_guard.domain.ledger import Clock, Ledger, LedgerKey
from bedrock_guard.telling.claiming import Claims, Found, Name


class Balances:
    """
    Those of one guard.

    Attributes:
        changed: By its id, each set of balances that a call has changed.
        topped_up: By how much the limit of a balance is topped up at a moment.
    """

    def __init__(self, ledger: Ledger, matcher: Matcher, clock: Clock, claims: Claims) -> None:
        self._ledger = ledger
        self._matcher = matcher
        self._clock = clock
        self._claims = claims
        self.topped_up: Callable[[LedgerKey, float], int] = lambda _key, _now: 0
        self.forget()

    def forget(self) -> None:
        """
        In a fork: what was changed is the parent's to read.
        """
        self.changed: dict[int, Sequence[Match]] = {}
        self._charged: deque[LedgerKey] = deque()
        self._said: dict[tuple[str, LedgerKey], tuple[Match, str]] = {}
        self._to_read: dict[LedgerKey, Match] = {}

    def __bool__(self) -> bool:
        return bool(self.changed or self._charged or self._said or self._to_read)

    def charge(self, keys: Iterable[LedgerKey]) -> None:
        """
        The balances of *keys* were charged by something else than the end of a call.
        """
        self._charged.extend(keys)

    def say(self, kind: str, matches: Iterable[Match], texts: Mapping[LedgerKey, str]) -> None:
        """
        Tell those *texts* of the balances of *matches*, once they are read.
        """
        for match in matches:
            if match.key in texts:
                self._said[kind, match.key] = match, texts[match.key]

    def find(self, kind: str, match: Match, threshold: float | None, *, spent: int, what: str) -> None:
        """
        Tell *what* of a balance that has *spent* so much, unless that is told already.
        """
        zone, now = self._matcher.zone, self._clock()
        key, window = news_of(match, now)
        write = partial(balance_alert, kind, threshold, match, spent=spent, what=what, at_s=now, zone=zone)
        self._claims.find(Name(kind, threshold, key), Found(window.end, write))

    def read(self) -> None:
        """
        Read what was changed, and find what is to be told of it.

        Raises:
            LedgerUnavailable: The rest stays to be read.
        """
        said = dict(self._said)  # at once: calls go on saying
        self._to_read |= {match.key: match for match, _ in said.values()}
        while self.changed:
            _, matches = self.changed.popitem()
            self._to_read |= {match.key: match for match in matches}
        while self._charged:
            match = self._matcher.find(self._charged.popleft())
            if match is not None:
                self._to_read[match.key] = match
        about = {key for _, key in said}
        wanted = {
            key: match for key, match in self._to_read.items() if key in about or not self._is_told(match)
        }
        now = self._clock()
        keys = {key: None for match in wanted.values() for key in keys_of(match)}
        balances = {balance.key: balance for balance in self._ledger.balances(list(keys))} if keys else {}
        # Found as they are read: what a sum was that several ends changed, only its balance knows.
        spent = {key: spent_of(match, balances, now) for key, match in wanted.items()}
        for key, match in wanted.items():
            wanted[key] = topped_up = replace(match, limit=match.limit + self.topped_up(key, now))
            for share in reached(topped_up, spent[key]):
                what = f"{100 * share:g} % is reached"
                self.find("threshold", topped_up, share, spent=spent[key], what=what)
        for (kind, key), (_, what) in said.items():
            self.find(kind, wanted[key], None, spent=spent[key], what=what)
            del self._said[kind, key]
        self._to_read = {}

    def shares(self) -> list[tuple[str, float]]:
        """
        The share of its limit, top-ups included, that is spent of each budget that keeps one balance; of a
        rate, that is taken. A limit of 0 has no shares.

        Raises:
            LedgerUnavailable: They cannot be read.
        """
        now, matcher = self._clock(), self._matcher
        found: list[Match] = []
        for budget in matcher.budgets:
            if not budget.per:
                rule, window = matcher.current(budget, now)
                match = matcher.find(LedgerKey(budget.name, rule, (), window.start))
                found += [] if match is None else [match]
        keys = [key for match in found for key in keys_of(match)]
        balances = {balance.key: balance for balance in self._ledger.balances(keys)}
        limits = [match.limit + self.topped_up(match.key, now) for match in found]
        return [
            (match.budget.name, spent_of(match, balances, now) / limit)
            for match, limit in zip(found, limits, strict=True)
            if limit
        ]

    def _is_told(self, match: Match) -> bool:
        key, _ = news_of(match, self._clock())
        return all(self._claims.is_told(Name("threshold", share, key)) for share in match.budget.alerts)
