"""
Alerts and calls as metrics (EMF), or as structured log lines, by aws-lambda-powertools.

In Lambda both are lines on standard output, which CloudWatch reads: nothing is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bedrock_guard.alerts.clients import check_texts
from bedrock_guard.domain import metric_names
from bedrock_guard.domain.alert import Alert
from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.usage import ALL_INPUT_METERS, CACHE_READ
from bedrock_guard.errors import ConfigurationError

_SERVICE: Final = "bedrock"
_MOST_CHARACTERS: Final = 255
_COUNTS: Final = frozenset({metric_names.REFUSED_CALLS, metric_names.CLAMPED_BALANCES})


class MetricsSink:
    """
    Metrics in the namespace `BedrockGuard`, named in `domain.metric_names`.

        budget_used_share   of a threshold that is reached; by budget
        refused_calls       1 for each call that is refused; of all, and again by budget
        clamped_balances    1 for the first of a balance and window that is cut short; of all, and by budget
        cost_usd            of each call that ended and has a price
        cache_hit_share     of each call that had input

    Each line is complete: the program's own `Metrics` object is another, and what it collects stays its own.
    """

    def __init__(self, *, service: str = _SERVICE) -> None:
        check_texts("powertools-metrics", service=service)
        self._lines = MetricLines(service)

    def send(self, alert: Alert) -> None:
        """
        Emit how much of the budget is used, or that its calls are cut short; other kinds are told by the
        calls themselves.
        """
        if alert.kind == "clamped":
            self._count(metric_names.CLAMPED_BALANCES, 1, budget=alert.budget)
        if alert.kind == "threshold" and alert.used_share is not None and alert.budget:
            self._emit({metric_names.BUDGET_USED_SHARE: alert.used_share}, budget=alert.budget)

    def observe(self, entry: Entry) -> None:
        """
        Emit what a call came to, or that it was refused.
        """
        if entry.outcome == "refused":
            self._count(metric_names.REFUSED_CALLS, entry.count, budget=entry.budget)
            return
        figures = {}
        if entry.cost_nanousd is not None:
            figures[metric_names.COST_USD] = entry.cost_nanousd / 1e9
        total = sum(entry.usage.get(meter, 0) for meter in ALL_INPUT_METERS)
        if total:
            figures[metric_names.CACHE_HIT_SHARE] = entry.usage.get(CACHE_READ, 0) / total
        if figures:
            self._emit(figures)

    def _count(self, name: str, count: int, *, budget: str | None) -> None:
        # CloudWatch adds no dimensions up: an alarm on all refusals would never see those of a budget.
        for each in dict.fromkeys((None, budget)):
            self._emit({name: float(count)}, budget=each)

    def _emit(self, figures: dict[str, float], *, budget: str | None = None) -> None:
        units = {name: "Count" if name in _COUNTS else "NoUnit" for name in figures}
        dimensions = {} if budget is None else {metric_names.DIMENSION_BUDGET: budget}
        self._lines.write(dimensions, {name: (units[name], value) for name, value in figures.items()})


class LoggerSink:
    """
    One structured line at warning for each alert, with its JSON under `alert`.
    """

    def __init__(self, *, service: str = _SERVICE) -> None:
        check_texts("powertools-logger", service=service)
        # Loggers of one service are one object: the program's keeps its keys, and ours has none of them.
        self._logger: Any = _import("logging").Logger(service=f"bedrock_guard.alerts.{service}")
        self._logger.append_keys(service=service)

    def send(self, alert: Alert) -> None:
        """
        Write it.
        """
        self._logger.warning(alert.text, extra={"alert": alert.to_dict()})


class MetricLines:
    """
    Lines in CloudWatch's embedded metric format, in the namespace `BedrockGuard`.

    Raises:
        ConfigurationError: aws-lambda-powertools is not there.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._metrics = _import("metrics").EphemeralMetrics
        self._unit = _import("metrics").MetricUnit

    def write(self, dimensions: Mapping[str, str], figures: Mapping[str, tuple[str, float]]) -> None:
        """
        One line of *figures*, each its unit and value, with the service and these *dimensions*, but for those
        that are blank.
        """
        metrics = self._metrics(namespace=metric_names.NAMESPACE)
        metrics.add_dimension(metric_names.DIMENSION_SERVICE, self._service)
        for name, text in dimensions.items():
            if text.strip():
                metrics.add_dimension(_plain(name), _plain(text))
        for name, (unit, value) in figures.items():
            metrics.add_metric(name, getattr(self._unit, unit), value)
        metrics.flush_metrics()


def _plain(text: str) -> str:
    # CloudWatch drops a line for one dimension that is longer, or not printable ASCII.
    return text.encode("unicode_escape").decode()[:_MOST_CHARACTERS]


def _import(module: str) -> Any:
    from importlib import import_module  # noqa: PLC0415

    try:
        return import_module(f"aws_lambda_powertools.{module}")
    except ImportError as error:
        raise ConfigurationError(
            "This needs aws-lambda-powertools: pip install 'bedrock-guard[powertools]'."
        ) from error
