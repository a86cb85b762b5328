"""
What a guard offers to those who operate it: the words of `operating`, as its methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from bedrock_guard.domain.control import Controls
from bedrock_guard.domain.globs import Globs
from bedrock_guard.operating import Operator


class Operated:
    """
    Stops and top-ups of the ledger of a guard; they hold for all guards and processes that share it.
    """

    covers_program: ClassVar[bool] = False
    """Whether it is round a program that does not know of it: `Guard.of` tells of others first, and `unguard`
    leaves it on."""

    _operator: Operator

    def stop(
        self,
        *,
        match: Mapping[str, Globs] | None = None,
        reason: str,
        until: datetime | None = None,
        by: str | None = None,
    ) -> str:
        """
        Admit no call whose tags *match*, globs as of a budget; without, none at all.

        It holds from the next call of every process on `memory://` and `sqlite://`, and within
        `control_refresh_s` on `dynamodb://`. What is held already may finish. Those who call get
        `Stopped`, with the *reason*. It passes at *until*, an aware datetime, or with `resume`.

        *by* says who, where that is not this process's user and host.

        Returns its id.

        Raises:
            ConfigurationError: Something cannot be understood.
            LedgerUnavailable: It is not written, or nobody knows; the ledger may be an operator's to write.
        """
        return self._operator.stop({} if match is None else match, reason, until=until, by=by)

    def resume(
        self,
        id: str | None = None,  # noqa: A002 - a stop's own word
        *,
        match: Mapping[str, Globs] | None = None,
        by: str | None = None,
    ) -> tuple[str, ...]:
        """
        End the stop of this id, or those that were made with just this *match*.

        Returns their ids.

        Raises:
            ConfigurationError: There is none; the text names those in force.
            LedgerUnavailable: It is not written, or nobody knows.
        """
        return self._operator.resume(id, match, by=by)

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
        Add *amount*, such as `"20 USD"`, to the limit of one balance, until its window ends, or sooner; of
        a rolling window, for as long as that is. A rate cannot be topped up.

        *budget* is the name of one of this guard's; of one with `per` tags, *per* says whose balance:
        `{"user": "alice"}`. It holds as soon as a stop does, and never for the next window.

        Returns its id.

        Raises:
            ConfigurationError: Something cannot be understood, or *until* is after the window's end.
            LedgerUnavailable: It is not written, or nobody knows.
        """
        return self._operator.top_up(budget, amount, per=per, until=until, reason=reason, by=by)

    def controls(self) -> Controls:
        """
        The stops and top-ups that are in force.

        On `dynamodb://`, as they were `control_refresh_s` ago or later.
        """
        return self._operator.controls()
