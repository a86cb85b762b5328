"""
Every error of ours, in one tree.

    GuardError
      BudgetExceeded          a call was refused before it was sent
      Stopped                 an operator stopped calls like this one
      UnpricedModel           a call cannot be priced
      UnmeteredOperation      an operation bills, and nothing here can count it
      LedgerUnavailable       the ledger did not answer, or cannot be used
      ReservationClosed       a reservation was ended twice, differently
      ConfigurationError      settings, budgets or URLs that cannot be understood

None is a botocore `ClientError`: frameworks and retry wrappers swallow those.
No error carries prompt or reply text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from decimal import Decimal


class GuardError(Exception):
    """
    Base of every error that `bedrock_guard` raises.
    """

    @classmethod
    def find(cls, exception: BaseException | None) -> Self | None:
        """
        The error of this class inside *exception*'s chain of causes, or None.

        instructor and CrewAI wrap whatever a client raises in errors of their own.
        """
        seen: set[int] = set()
        queue = [exception]
        while queue:
            error = queue.pop()
            if error is None or id(error) in seen:
                continue
            if isinstance(error, cls):
                return error
            seen.add(id(error))
            queue += [error.__context__, error.__cause__]
            if isinstance(error, BaseExceptionGroup):
                queue += error.exceptions
        return None


class ConfigurationError(GuardError):
    """
    A setting, budget, tag or URL that cannot be understood; the text says what is allowed.
    """


class UnmeteredOperation(GuardError):
    """
    The operation bills, and its usage cannot be counted, so no budget could hold.
    """


class ReservationClosed(GuardError):
    """
    A reservation that already ended was ended again, differently.
    """


class UnpricedModel(GuardError):
    """
    The price list has no price for what the call would use.
    """


@dataclass(eq=False)
class LedgerUnavailable(GuardError):
    """
    The ledger did not do what it was asked.

    Attributes:
        message: What happened, with the file or table.
        outcome: `"not_done"` when it certainly had no effect, `"unknown"` when it may have.
        is_lasting: Whether the ledger, well as it is, will never do this: a sum beyond 64 bits, or
            too many balances.
    """

    message: str
    outcome: Literal["not_done", "unknown"] = "not_done"
    is_lasting: bool = False

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.message, self.outcome, self.is_lasting)


@dataclass(frozen=True, slots=True)
class RefusedBudget:
    """
    One budget that had no room for the call.

    Attributes:
        budget: Its name.
        per: The tag values of the balance, sorted; empty when the budget keeps one.
        limit_text: The limit as it is written: `"250 USD/day"`.
        limit, spent, pending, requested, remaining: In *unit*; USD as `Decimal`, counts as `int`.
        pending_calls: How many calls hold what is pending, or None where the ledger does not count them.
        resets_at: When there is room again, aware UTC: the end of the window; of a rolling window or a rate,
            when the call would fit. None for never.
        reason: `"limit"`, `"rate"`, or `"larger_than_limit"` when the call could never fit.
        kind: `"window"`, `"rolling"` or `"rate"`; of a rate, *limit* is its burst and *spent* what is taken.
    """

    budget: str
    per: tuple[tuple[str, str], ...]
    limit_text: str
    unit: str
    limit: Decimal | int
    spent: Decimal | int
    pending: Decimal | int
    requested: Decimal | int
    remaining: Decimal | int
    resets_at: datetime | None
    reason: str
    pending_calls: int | None = None
    kind: str = "window"


@dataclass(eq=False)  # exceptions are compared and hashed by identity
class BudgetExceeded(GuardError):
    """
    A call was refused before it was sent, so it costs nothing.

    Of several budgets that had no room it describes the one that frees last;
    `refusals` holds all of them.

    Attributes:
        text: What `str()` gives: figures, and what would fit.
        refusals: Every budget that had no room.
        model_id, operation: Of the call.
        tags: The call's tags, built-in ones included.
        retry_after_s: Seconds until there is room: the window ends, enough has rolled out of it, or the rate
            is refilled so far; None when that is never.
    """

    text: str
    refusals: tuple[RefusedBudget, ...]
    model_id: str
    operation: str
    tags: Mapping[str, str]
    retry_after_s: float | None

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[object, ...]:
        # Worker pools pickle exceptions; the default would rebuild us from `args`.
        return type(self), (
            self.text,
            self.refusals,
            self.model_id,
            self.operation,
            dict(self.tags),
            self.retry_after_s,
        )

    @property
    def budget(self) -> str:
        """
        Name of the budget that refused.
        """
        return self.refusals[0].budget

    @property
    def unit(self) -> str:
        """
        What the figures count: `"USD"`, `"requests"`, or a token unit.
        """
        return self.refusals[0].unit

    @property
    def limit(self) -> Decimal | int:
        """
        What the budget allows in the window.
        """
        return self.refusals[0].limit

    @property
    def spent(self) -> Decimal | int:
        """
        What is settled in the window.
        """
        return self.refusals[0].spent

    @property
    def pending(self) -> Decimal | int:
        """
        What calls under way hold.
        """
        return self.refusals[0].pending

    @property
    def requested(self) -> Decimal | int:
        """
        The most this call could have used.
        """
        return self.refusals[0].requested

    @property
    def remaining(self) -> Decimal | int:
        """
        What was free when the call was refused.
        """
        return self.refusals[0].remaining

    @property
    def resets_at(self) -> datetime | None:
        """
        When there is room again, aware UTC; None for never, as of a lifetime budget.
        """
        return self.refusals[0].resets_at

    @property
    def public_message(self) -> str:
        """
        A sentence for an end user: no figures, no names.
        """
        if self.retry_after_s is None:
            return "The usage limit of this service is reached."
        return "The usage limit of this service is reached for now. Try again later."


@dataclass(eq=False)
class Stopped(GuardError):
    """
    A call was refused before it was sent, as an operator has stopped calls like it.

    Attributes:
        text: What `str()` gives: who, why, since and until when, and the command that resumes.
        id: The stop's, for `Guard.resume`.
        reason: Why, in the operator's words.
        by: Who stopped.
        since: When, aware UTC.
        until: When it passes by itself, aware UTC; None: when somebody resumes.
        model_id, operation: Of the call.
        tags: The call's tags, built-in ones included.
        retry_after_s: Seconds until it passes; None when that is not known.
    """

    text: str
    id: str
    reason: str
    by: str
    since: datetime
    until: datetime | None
    model_id: str
    operation: str
    tags: Mapping[str, str]
    retry_after_s: float | None

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), tuple(getattr(self, name) for name in type(self).__dataclass_fields__)

    @property
    def public_message(self) -> str:
        """
        A sentence for an end user: no names, no reasons.
        """
        return "This service is stopped for now. Try again later."
