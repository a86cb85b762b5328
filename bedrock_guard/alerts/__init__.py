"""
Sinks of alerts, by name.

To add one: write `alerts/<name>.py` with a class that keeps the protocol `AlertSink`, whose options are
the keyword arguments of its constructor, and add its line to `SINKS`. Other packages add theirs as entry
points of the group `bedrock_guard.sinks`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from bedrock_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from bedrock_guard.domain.alert import Alert, AlertSink

Given: TypeAlias = "str | Mapping[str, Any] | Callable[[Alert], object] | AlertSink"
"""A name, a table of the settings file, a function, or a sink."""

# Named, not imported: a program pays for the sinks that it uses.
SINKS: Final[dict[str, str]] = {
    "log": "bedrock_guard.alerts.log:LogSink",
    "sns": "bedrock_guard.alerts.sns:SNSSink",
    "eventbridge": "bedrock_guard.alerts.eventbridge:EventBridgeSink",
    "webhook": "bedrock_guard.alerts.webhook:WebhookSink",
    "powertools-metrics": "bedrock_guard.alerts.powertools:MetricsSink",
    "powertools-logger": "bedrock_guard.alerts.powertools:LoggerSink",
}

ENTRY_POINTS: Final = "bedrock_guard.sinks"


def open_sinks(given: Iterable[Given], *, places: Sequence[Callable[[], str]] = ()) -> tuple[AlertSink, ...]:
    """
    The sinks that are *given*, in order; who is named twice is told once. *places* tell where each is named.

    Raises:
        ConfigurationError: One is unknown, or lacks an option, or has one that it does not know.
    """
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise ConfigurationError(f'sinks is {given!r}; it is a list: sinks=["log", my_function].')
    named: list[Given] = []
    opened: list[AlertSink] = []
    for each, place in zip_longest(given, places):
        # Equal are names, tables and methods of one object; a sink of somebody's own, only if it is the same.
        is_sink = callable(getattr(each, "send", None))
        if any(each is other if is_sink else each == other for other in named):
            continue
        named.append(each)
        try:
            opened.append(_open(each))
        except ConfigurationError as error:
            if place is None:
                raise
            raise ConfigurationError(f"{place()}: {error}") from None
    return tuple(opened)


def _open(given: Given) -> AlertSink:
    if isinstance(given, str):
        return _make(given, {})
    if isinstance(given, Mapping):
        name = given.get("use")
        if not isinstance(name, str):
            raise ConfigurationError(f'Sink {dict(given)!r} does not say which it is: use = "sns", for one.')
        return _make(name, {option: value for option, value in given.items() if option != "use"})
    if callable(getattr(given, "send", None)):
        return cast("AlertSink", given)
    if callable(given):
        from bedrock_guard.alerts.function import FunctionSink  # noqa: PLC0415  (imported on use)

        return FunctionSink(given)
    raise ConfigurationError(
        f"{given!r} is no sink; it is a name ({', '.join(SINKS)}), a function that takes an alert, or an "
        "object with a method send()."
    )


def _make(name: str, options: dict[str, Any]) -> AlertSink:
    made = _find(name)
    known = [each for each in inspect.signature(made).parameters.values() if each.kind != each.VAR_KEYWORD]
    names = [each.name for each in known]
    for option in options:
        if option not in names:
            near = difflib.get_close_matches(option, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names) or 'none'}."
            raise ConfigurationError(f"Sink {name!r} has no option {option!r}; {hint}")
    missing = [each.name for each in known if each.default is each.empty and each.name not in options]
    if missing:
        raise ConfigurationError(f"Sink {name!r} needs {', '.join(missing)}.")
    return made(**options)


def _find(name: str) -> Callable[..., AlertSink]:
    if name in SINKS:
        module, _, made = SINKS[name].partition(":")
        return cast("Callable[..., AlertSink]", getattr(import_module(module), made))
    # Reading every installed package's metadata takes milliseconds: only for names that are not ours.
    from importlib.metadata import entry_points  # noqa: PLC0415

    others = entry_points(group=ENTRY_POINTS)
    if name in others.names:
        return cast("Callable[..., AlertSink]", others[name].load())
    known = (*SINKS, *sorted(others.names))
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
    raise ConfigurationError(f"{name!r} is no sink; {hint}")
