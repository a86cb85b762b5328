"""
Guard: settings in, working parts out.

The only module that knows which ledger, price list and configuration are used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from bedrock_guard.alerts import Given, open_sinks
from bedrock_guard.budgets.matching import Matcher
from bedrock_guard.budgets.status import BudgetStatus, count_would_refuse, read_status
from bedrock_guard.calls.pipeline import Pipeline
from bedrock_guard.calls.shadow import lenient
from bedrock_guard.calls.tripping import Breakers
from bedrock_guard.checks import (
    check_model_id,
    check_moment,
    check_region,
    check_usage,
    check_word,
    read_filters,
)
from bedrock_guard.config.load import Resolved, at, is_hosted, is_lambda, resolve
from bedrock_guard.context import check_tags
from bedrock_guard.domain.breaker import Breaker
from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.cost import Cost
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Clock, Ledger, read_all_entries
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.usage import Usage
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.flushing import lambda_handler
from bedrock_guard.holding import Hold, fingerprint_of, read_given
from bedrock_guard.hooks import attach, sessions
from bedrock_guard.hooks.drains import DRAINS
from bedrock_guard.ledgers import open_ledger
from bedrock_guard.operated import Operated
from bedrock_guard.operating import Operator
from bedrock_guard.plan import Estimate, as_estimate
from bedrock_guard.planning import Planner
from bedrock_guard.pricing.calculate import cost
from bedrock_guard.pricing.overlay import PRICES_VARIABLE
from bedrock_guard.pricing.price_list import PriceList
from bedrock_guard.telemetry import Given as TelemetryGiven
from bedrock_guard.telemetry import open_telemetry
from bedrock_guard.telling.noticing import Alerts

if TYPE_CHECKING:
    from bedrock_guard.domain.settings import Settings

ClientT = TypeVar("ClientT")
SessionT = TypeVar("SessionT")
P = ParamSpec("P")
R = TypeVar("R")


class Guard(Operated):
    """
    Budgets, prices and a ledger, put round clients.

    Args:
        budget: One budget, as a string or a `Budget`.
        budgets: Several; an empty list records calls without limiting them.
        breakers: Conditions that calls must keep, strings or objects. None: those of the settings.
        ledger: A URL, or a `Ledger` to share; the guard closes only what it opened itself.
        settings: A path to a TOML file, a mapping, or a `Settings`.
        tags: On every call of every client of this guard.
        sinks: Who is told of alerts: names (`"log"`), functions, sinks, or tables as in a settings file.
            None: those of the settings, or the log. Empty: nobody, and other processes tell what they notice.
        telemetry: What each call came to, told to a backend: `"otel"`, `"powertools"`, both in a list, or a
            table as in a settings file. None: that of the settings, or nothing. Empty: nothing.
        clock: Seconds since 1970, for tests.
        **overrides: Single settings by name, stronger than *settings*.

    Raises:
        ConfigurationError: Something cannot be understood, or no budget is set anywhere.
        LedgerUnavailable: The ledger cannot be opened.
    """

    def __init__(
        self,
        *,
        budget: str | Budget | None = None,
        budgets: Iterable[Budget | str] | None = None,
        breakers: Iterable[Breaker | str] | None = None,
        ledger: str | Ledger | None = None,
        settings: str | os.PathLike[str] | Mapping[str, Any] | Settings | None = None,
        tags: Mapping[str, str] | None = None,
        sinks: Iterable[Given] | None = None,
        telemetry: TelemetryGiven | None = None,
        clock: Clock | None = None,
        **overrides: Any,
    ) -> None:
        is_url = ledger is None or isinstance(ledger, str)
        self._resolved = resolved = resolve(
            budget=budget,
            budgets=budgets,
            breakers=breakers,
            ledger=ledger if isinstance(ledger, str) else None,
            has_ledger=not is_url,
            needs_names=getattr(ledger, "needs_names", False),
            settings=settings,
            tags=tags,
            overrides=overrides,
        )
        check_tags(resolved.tags)
        if clock is not None and not callable(clock):
            raise ConfigurationError(f"clock is {clock!r}; it is a function that returns seconds since 1970.")
        self._clock: Clock = clock or time.time
        told = open_sinks(resolved.sinks, places=resolved.sink_places) if sinks is None else open_sinks(sinks)
        with at(resolved.telemetry_place if telemetry is None else None):
            exporters = open_telemetry(resolved.telemetry if telemetry is None else telemetry)
        working = lenient(resolved.settings)
        matcher = Matcher(resolved.budgets, working)
        self._owns_ledger = is_url
        self._ledger = self._open_ledger(ledger)
        is_named = bool(os.environ.get(PRICES_VARIABLE))
        self._prices = PriceList.installed() if is_named or not is_hosted() else PriceList.packaged()
        planner = Planner(settings=working, matcher=matcher, prices=self._prices, tags=resolved.tags)
        self._matcher = matcher
        # Without sinks nothing is claimed; somebody has to look at breakers all the same.
        is_looking = bool(told or exporters or resolved.breakers)
        alerts = Alerts(self._ledger, matcher, self._clock, told, telemetry=exporters) if is_looking else None
        planner.age_watch.tell = None if alerts is None else alerts.see_old_prices
        self._pipeline = Pipeline(
            planner=planner,
            ledger=self._ledger,
            clock=self._clock,
            wanted=resolved.settings,
            alerts=alerts,
            breakers=self._open_breakers(),
            tells_first=is_lambda(),
        )
        self._operator = Operator(self._ledger, matcher, self._clock)
        if is_lambda():
            self._pipeline.upkeep.begin()
            self._pipeline.sweeper.sweep_early()

    @classmethod
    def of(cls, client: Any) -> Self | None:
        """
        The guard of *client*, the first attached of the program's own, else of a run; None when it has none.
        """
        owners = [owner for owner in attach.owners_of(client) if isinstance(owner, cls)]
        return min(owners, key=lambda owner: owner.covers_program, default=None)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """
        What this guard enforces.
        """
        return self._resolved.budgets

    @property
    def breakers(self) -> tuple[Breaker, ...]:
        """
        What this guard trips by.
        """
        return self._resolved.breakers

    @property
    def resolved(self) -> Resolved:
        """
        What this guard was made of; equal for two guards that enforce the same on the same ledger.
        """
        return self._resolved

    @property
    def prices_as_of(self) -> date:
        """
        The day that the price list is of; `bedrock-guard prices sync` makes it newer.
        """
        return self._prices.as_of

    @property
    def ledger(self) -> Ledger:
        """
        Where balances and entries are kept.
        """
        return self._ledger

    def client(self, service_name: str = "bedrock-runtime", *args: Any, **kwargs: Any) -> Any:
        """
        A new boto3 client with this guard round it; the arguments are those of `boto3.client`.
        """
        import boto3  # noqa: PLC0415  (imported on use: agents may bring their own session)

        return self.attach(boto3.client(service_name, *args, **kwargs))

    def attach(self, client: ClientT) -> ClientT:
        """
        Put this guard round *client*, in place, and return the same object.

        Several guards stack, and all must admit a call; one that has the same budgets in
        the same ledger as another is not put on, as it would only charge twice.

        Raises:
            ConfigurationError: It is no boto3 client of a service that can be guarded.
        """
        if not any(self._enforces_the_same(owner) for owner in attach.owners_of(client)):
            attach.attach(client, self._pipeline, owner=self)
        return client

    def attach_session(self, session: SessionT) -> SessionT:
        """
        Put this guard round every client that *session* makes from now on.
        """
        sessions.attach_session(session, self.attach, unique_id=f"{id(self):x}")
        return session

    def detach(self, client: ClientT) -> ClientT:
        """
        Take this guard off *client*; calls under way still settle.
        """
        attach.detach(client, self._pipeline)
        return client

    def estimate(self, operation: str, *, region: str = "us-east-1", **params: Any) -> Estimate:
        """
        The most that a call of *operation* (`"Converse"`) with *params* could use and cost; sends nothing.

        Raises:
            ConfigurationError: The operation is not a billed one, or no model is named.
            UnpricedModel: The model has no price.
        """
        _, call = read_given(self._pipeline.planner, operation, params, region)
        return as_estimate(self._pipeline.planner.plan(call, self._clock()))

    def hold(self, operation: str, params: Mapping[str, Any], *, region: str) -> Hold:
        """
        The budget round one request of a client that is not boto3's: a context manager.

            with guard.hold("Converse", params, region="us-east-1") as hold:
                reply = httpx.post(...)
                hold.settle(reply.content)

        *params* are those of boto3's method of this *operation*; a `body` may be its document.
        Whoever sends the request must then say how it ended: `settle`, `rejected` or `lost`.
        A client that retries by itself sends more than is held for: turn that off.

        Raises:
            ConfigurationError: The operation is not a billed one, no model is named, or the body
                is no JSON. What a call may raise, the `with` statement does.
        """
        given = read_given(self._pipeline.planner, operation, params, region)
        request = None if self._pipeline.loops is None else fingerprint_of(params)
        return Hold(self._pipeline, *given, request)

    def price(
        self,
        model_id: str,
        usage: Usage,
        *,
        region: str = "us-east-1",
        service_tier: str = "default",
        latency: str = "standard",
        at: datetime | None = None,
    ) -> Cost:
        """
        What *usage* (meter name -> whole quantity) of *model_id* costs, by this guard's prices.

        That is the list price, where its settings have none of the account's own.

        *at* is an aware datetime; None is the newest price. An ARN's own region is stronger than *region*.

        Raises:
            ConfigurationError: A meter is unknown, a quantity no whole number, *region* no string, *at* no
                aware datetime.
            UnpricedModel: The model, or a meter of *usage*, has no price.
        """
        model = parse_model_id(check_model_id(model_id))
        named = check_region(region)
        prices = self._pipeline.planner.find_prices(
            model,
            region=model.region or named,
            service_tier=check_word("service_tier", service_tier),
            latency=check_word("latency", latency),
            at=check_moment("at", at),
        )
        return cost(check_usage(usage), prices)

    def status(self) -> list[BudgetStatus]:
        """
        One row for each balance of the current windows, and one of zeros for a budget without any.
        """
        rows = read_status(
            self.budgets,
            self._matcher,
            self._ledger.balances(),
            now=self._clock(),
            prices_as_of=self.prices_as_of,
            controls=self._ledger.controls(),
        )
        return count_would_refuse(rows, self._matcher, self._ledger)

    def entries(self, **filters: Any) -> Iterator[Entry]:
        """
        The records of calls, newest first.

        *filters* are `since` and `until` (aware datetimes); `outcome`, `basis`, `operation`, `model`,
        `model_id`, `family`, `region` and `service_tier` (equal to); `tags` (each has this value);
        `cost_min` and `cost_max` (USD), `tokens_min`, `tokens_max` and `attempts_min` (included);
        `status` and `error_code` (of any attempt).

        Raises:
            ConfigurationError: A filter is unknown, or its value cannot be understood.
        """
        return read_all_entries(self._ledger, read_filters(filters))

    def lambda_handler(self, function: Callable[P, R]) -> Callable[P, R]:
        """
        A decorator for the handler of a Lambda function, outermost of several.

            @my_guard.lambda_handler
            def handler(event, context): ...

        While it runs, nothing is held for longer than the invocation can last (and a few seconds), by its
        context's `get_remaining_time_in_millis`; with a context that has none, such as a test's, for
        `hold_s`. Before it returns or raises, streams that are still open end as abandoned, and what has
        ended is written: for that, two seconds or half of the time that is left are waited for at most.
        What is not settled then is logged, and its hold expires.

        Raises:
            ConfigurationError: It is no function that Lambda could call: a coroutine function, for one.
        """
        return lambda_handler(self._pipeline, function)

    def close(self) -> None:
        """
        Write what is left to write, and give back what the ledger holds open.

        Streams that are read on in the background end at their estimates. Attached clients refuse
        calls afterwards.
        """
        DRAINS.finish(self._pipeline)
        if self._owns_ledger:
            self._pipeline.close()
            self._ledger.close()
        else:
            self._pipeline.write_last()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _enforces_the_same(self, other: object) -> bool:
        """
        Whether *other* has the same budgets and prices in the same ledger: both would charge a call twice.
        """
        if not isinstance(other, Guard) or other is self or self._resolved != other.resolved:
            return False
        if self._prices.identity != other._prices.identity:  # noqa: SLF001 - a guard, as this is
            return False
        is_shared = self._owns_ledger and not (self._resolved.ledger or "").startswith("memory:")
        return is_shared or self._ledger is other.ledger

    def _open_ledger(self, given: str | Ledger | None) -> Ledger:
        if given is None or isinstance(given, str):
            with at(self._resolved.ledger_place):
                return open_ledger(self._resolved.ledger or "", clock=self._clock)
        if not hasattr(given, "reserve"):
            raise ConfigurationError(f"ledger is {given!r}; it is a URL such as 'memory://', or a Ledger.")
        return given

    def _open_breakers(self) -> Breakers | None:
        found = self._resolved.breakers
        if not found:
            return None
        settings, prices = self._resolved.settings, self._prices
        return Breakers(found, settings=settings, ledger=self._ledger, clock=self._clock, prices=prices)
