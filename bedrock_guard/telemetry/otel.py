"""
Calls as attributes of the span that is current, and as metrics, by the API of OpenTelemetry.

It makes no span of its own. Without an SDK the API does nothing, and so does this. What a backend raises is
logged, and never reaches a call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from weakref import WeakValueDictionary

from bedrock_guard.background import COURIER
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.watching import Shares
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.telemetry.collecting import watch_collector
from bedrock_guard.telemetry.table import (
    DURATION_BUCKETS,
    FIGURES,
    IS_GEN_AI,
    METER,
    NAMES,
    TAG,
    TOKEN_BUCKETS,
    USAGE,
    USED_SHARE,
    Figure,
    Value,
    usage_of,
)
from bedrock_guard.telemetry.wanted import Wanted

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, Meter, Observation
    from opentelemetry.trace import Span

log = logging.getLogger("bedrock_guard")

_Record: TypeAlias = Callable[..., None]
_Read: TypeAlias = "Sequence[tuple[str, Callable[[Entry], Value | None]]]"

_SCOPE: Final = "bedrock_guard"
_BUCKETS: Final = {"{token}": TOKEN_BUCKETS, "s": DURATION_BUCKETS}


class OpenTelemetry:
    """
    Tells each call where it happens: as its span may be over a moment later.
    """

    def __init__(self, wanted: Wanted) -> None:
        try:
            from opentelemetry import metrics, trace  # noqa: PLC0415  (imported on use)
            from opentelemetry.context import get_current  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                "telemetry: \"otel\" needs opentelemetry-api: pip install 'bedrock-guard[otel]'."
            ) from error
        self._wanted = wanted
        self._current_span = trace.get_current_span
        self._current_context = get_current
        self._collecting = watch_collector()
        self._has_failed = False
        shown = [each for each in (*NAMES, *FIGURES) if each.attribute and self._is_told(each.attribute)]
        self._shown: _Read = [(each.attribute or "", each.read) for each in shown]
        self._early: _Read = [(each.attribute or "", each.read) for each in shown if each.is_early]
        self._of_metrics = [(name.attribute, name.read) for name in NAMES if name.is_of_metrics]
        self._figures = [each for each in FIGURES if each.metric is not None and self._is_told(each.metric)]
        # The global provider may be set later: its module makes a meter that waits for it.
        source: Any = metrics if wanted.meter_provider is None else wanted.meter_provider
        try:
            self._instruments = _instruments(source)
        except Exception as error:
            raise ConfigurationError(f"telemetry: meter_provider makes no metrics: {error!r}.") from error

    def begin(self, entry: Entry) -> Told:
        """
        A call is about to be made: its span is told what is known by now, as it may end before the call does.
        """
        span, context = self._here()
        self._tell_span(span, self._early, entry)
        return Told(self, span, context)

    def refuse(self, entry: Entry) -> None:
        """
        A call was refused.
        """
        self.tell(*self._here(), entry)

    def follow(self, shares: Shares) -> None:
        """
        Tell the shares of budgets whenever metrics are collected.
        """
        self._instruments.followed[id(shares)] = shares

    def tell(self, span: Span | None, context: Context | None, entry: Entry) -> None:
        """
        Tell *entry* to the *span* and *context* of its call.
        """
        if self._collecting.is_here:
            COURIER.soon(partial(self._tell, span, context, entry))
        else:
            self._tell(span, context, entry)

    def _here(self) -> tuple[Span | None, Context | None]:
        try:
            return self._current_span(), self._current_context()
        except Exception as error:  # noqa: BLE001 - a backend may raise anything
            self._fail(error)
            return None, None

    def _tell_span(self, span: Span | None, wanted: _Read, entry: Entry) -> None:
        try:
            if span is not None and span.is_recording():
                span.set_attributes(self._read(wanted, entry))
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def _tell(self, span: Span | None, context: Context | None, entry: Entry) -> None:
        self._tell_span(span, self._shown, entry)
        try:
            attributes = self._read(self._of_metrics, entry)
            for figure in self._figures:
                value = figure.read(entry)
                if value is not None:
                    own = {**attributes, **dict(figure.fixed)} if figure.fixed else attributes
                    self._instruments.record[figure.metric](value, own, context)
            for meter, quantity in usage_of(entry).items():
                self._instruments.record[USAGE](quantity, {**attributes, METER: meter}, context)
        except Exception as error:  # noqa: BLE001
            self._fail(error)

    def _is_told(self, name: str) -> bool:
        return self._wanted.gen_ai or not name.startswith(IS_GEN_AI)

    def _read(self, wanted: _Read, entry: Entry) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for name, read in wanted:
            value = read(entry)
            if value is not None:
                found[name] = value
        if self._wanted.tags:
            found |= {f"{TAG}{tag}": text for tag, text in self._wanted.tagged(entry.tags).items()}
        return found

    def _fail(self, error: Exception) -> None:
        level = logging.DEBUG if self._has_failed else logging.WARNING
        self._has_failed = True
        log.log(level, "A call could not be told to OpenTelemetry: %r", error)


class Told:
    """
    Where one call is told that has not ended.
    """

    __slots__ = ("_context", "_span", "_telemetry")

    def __init__(self, telemetry: OpenTelemetry, span: Span | None, context: Context | None) -> None:
        self._telemetry = telemetry
        self._span = span
        self._context = context

    def count(self, entry: Entry) -> None:
        """
        Tell its end.
        """
        self._telemetry.tell(self._span, self._context, entry)


class Instruments:
    """
    The metrics of one meter.

    Attributes:
        record: By its name, what takes a value of it, its attributes and the context.
        followed: Whose shares of budgets are told, by their ids: guards are made while another thread reads.
    """

    def __init__(self, meter: Meter) -> None:
        by_name = {figure.metric: figure for figure in FIGURES if figure.metric is not None}
        self.record: dict[str | None, _Record] = {
            name: _make(meter, name, figure) for name, figure in by_name.items()
        }
        self.record[USAGE] = meter.create_counter(USAGE, "1", "what was charged of each meter").add
        self.followed: WeakValueDictionary[int, Shares] = WeakValueDictionary()
        meter.create_observable_gauge(
            USED_SHARE, [self._observe], "1", "the share of its limit that is spent"
        )

    def _observe(self, _: CallbackOptions) -> Iterator[Observation]:
        from opentelemetry.metrics import Observation  # noqa: PLC0415

        for found in self.followed.valuerefs():
            each = found()
            try:
                shares = [] if each is None else list(each.shares())
            except Exception as error:  # noqa: BLE001 - a ledger that is gone, or closed
                log.debug("Shares of budgets could not be read: %r", error)
            else:
                yield from [Observation(share, {"bedrock_guard.budget": name}) for name, share in shares]


@cache
def _instruments(source: Any) -> Instruments:
    """
    Those of one provider of meters, which are made once.
    """
    return Instruments(source.get_meter(_SCOPE))


def _make(meter: Meter, name: str, figure: Figure) -> _Record:
    if figure.kind == "counter":
        return meter.create_counter(name, figure.unit, figure.text).add
    bounds = _BUCKETS[figure.unit]
    return meter.create_histogram(name, figure.unit, explicit_bucket_boundaries_advisory=bounds).record
