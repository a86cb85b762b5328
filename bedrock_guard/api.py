"""
What the README shows: `guarded_client`, `guard`, `unguard`, `guarded_session`, `guard_process`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.ledger import Ledger
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.hooks.attach import owners_of
from bedrock_guard.wiring import Guard

if TYPE_CHECKING:
    import boto3

log = logging.getLogger("bedrock_guard")

ClientT = TypeVar("ClientT")


class _ClientGuard(Guard):
    """
    A guard that was made for one client; a second one with other budgets is a mistake.
    """


SettingsSource = str | os.PathLike[str] | Mapping[str, Any] | Settings


def guarded_client(
    service_name: str = "bedrock-runtime",
    *client_args: Any,
    budget: str | Budget | None = None,
    budgets: Iterable[Budget | str] | None = None,
    ledger: str | Ledger | None = None,
    settings: SettingsSource | None = None,
    tags: Mapping[str, str] | None = None,
    guard: Guard | None = None,
    session: Any = None,
    **client_kwargs: Any,
) -> Any:
    """
    What `boto3.client(...)` returns, with budgets round it.

    Everything that `boto3.client` takes works unchanged, positionally too;
    `config=` is botocore's `Config`. *session* is a `boto3.Session` to make the
    client with, *guard* a `Guard` to share.

    Raises:
        ConfigurationError: Something cannot be understood, or no budget is set anywhere.
        LedgerUnavailable: The ledger cannot be opened.
    """
    import boto3  # noqa: PLC0415  (imported on use)

    chosen = _choose(guard, budget=budget, budgets=budgets, ledger=ledger, settings=settings, tags=tags)
    make = boto3.client if session is None else session.client
    return chosen.attach(make(service_name, *client_args, **client_kwargs))


def guard(
    client: ClientT,
    *,
    budget: str | Budget | None = None,
    budgets: Iterable[Budget | str] | None = None,
    ledger: str | Ledger | None = None,
    settings: SettingsSource | None = None,
    tags: Mapping[str, str] | None = None,
) -> ClientT:
    """
    Put budgets round a client that exists, in place, and return the same object.

    The same again changes nothing. To put several guards round one client, all
    of which must admit a call, use `Guard.attach`.

    Raises:
        ConfigurationError: Something cannot be understood, the client's service
            cannot be guarded, or it is guarded with other budgets already.
    """
    new = _ClientGuard(budget=budget, budgets=budgets, ledger=ledger, settings=settings, tags=tags)
    for existing in (owner for owner in owners_of(client) if isinstance(owner, _ClientGuard)):
        new.close()
        if existing.resolved == new.resolved and ledger in (None, existing.ledger, new.resolved.ledger):
            return client
        raise ConfigurationError(
            f"This client is already guarded, by {_names(existing)}; unguard() it first, "
            "or stack a second guard on it with Guard(...).attach(client)."
        )
    return new.attach(client)


def unguard(client: ClientT) -> ClientT:
    """
    Take every guard off *client*; it is the client that boto3 made again.

    Those of `bedrock-guard run` stay: they are not the program's.
    """
    for owner in owners_of(client):
        if isinstance(owner, Guard) and not owner.covers_program:
            owner.detach(client)
    return client


def guarded_session(
    session: boto3.Session | None = None,
    *,
    budget: str | Budget | None = None,
    budgets: Iterable[Budget | str] | None = None,
    ledger: str | Ledger | None = None,
    settings: SettingsSource | None = None,
    tags: Mapping[str, str] | None = None,
    guard: Guard | None = None,
) -> boto3.Session:
    """
    A `boto3.Session` whose later Bedrock clients are guarded; *session* itself when one is given.

    For frameworks that take a session and make their own client, such as Strands.
    """
    import boto3  # noqa: PLC0415

    chosen = _choose(guard, budget=budget, budgets=budgets, ledger=ledger, settings=settings, tags=tags)
    return chosen.attach_session(boto3.Session() if session is None else session)


def guard_process(
    *,
    budget: str | Budget | None = None,
    budgets: Iterable[Budget | str] | None = None,
    ledger: str | Ledger | None = None,
    settings: SettingsSource | None = None,
    tags: Mapping[str, str] | None = None,
    guard: Guard | None = None,
) -> Guard:
    """
    Guard the Bedrock clients of every botocore session that this process makes from now on.

    For frameworks that make their own clients. boto3's default session is
    covered too when it exists already; clients it made before, and other
    sessions made before, are not: call this before anything else. It holds for
    the rest of the process; called again, both guards must admit a call.

    Returns the guard, for its `status()` and `entries()`.

    Raises:
        ConfigurationError: Something cannot be understood, or no budget is set anywhere.
        LedgerUnavailable: The ledger cannot be opened.
    """
    import boto3  # noqa: PLC0415
    import botocore  # noqa: PLC0415

    chosen = _choose(guard, budget=budget, budgets=budgets, ledger=ledger, settings=settings, tags=tags)

    def attach(session: Any) -> None:
        chosen.attach_session(session)

    botocore.register_initializer(attach)
    if boto3.DEFAULT_SESSION is not None:
        chosen.attach_session(boto3.DEFAULT_SESSION)
        log.warning(
            "boto3's default session existed before guard_process(): its later clients are guarded; clients "
            "made before, and those of other sessions made before, are not."
        )
    return chosen


def _choose(guard: Guard | None, **arguments: Any) -> Guard:
    if guard is None:
        return _ClientGuard(**arguments)
    if not isinstance(guard, Guard):
        raise ConfigurationError(f"guard is {guard!r}; it is a Guard.")
    given = [name for name, value in arguments.items() if value is not None]
    if given:
        raise ConfigurationError(
            f"guard= and {given[0]}= were both given; a Guard has its own {given[0]} already."
        )
    return guard


def _names(existing: Guard) -> str:
    return ", ".join(str(budget) for budget in existing.budgets) or "a guard that only records"
