"""
Telemetry: what each call came to, told to a backend of the program's own; nothing unless it is asked for.

To add an exporter: write `telemetry/<name>.py` with a class that takes `Wanted`, and is a `Watcher` (told
where a call happens) or `ObservesEntries` (told beside the calls), and add its line to `EXPORTERS`. What it
tells of a call is in `telemetry.table`, for all of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, Final, TypeAlias

from bedrock_guard.domain.alert import ObservesEntries
from bedrock_guard.domain.watching import Watcher
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.telemetry.wanted import Wanted

Given: TypeAlias = "str | Iterable[str] | Mapping[str, Any]"
"""A name, several, or a table as in a settings file."""

Exporter: TypeAlias = Watcher | ObservesEntries

# Named, not imported: a program pays for the one that it uses.
EXPORTERS: Final[dict[str, str]] = {
    "otel": "bedrock_guard.telemetry.otel:OpenTelemetry",
    "powertools": "bedrock_guard.telemetry.emf:EmbeddedMetrics",
}

_OPTIONS: Final = ("use", *Wanted.__dataclass_fields__)
_HOW_TO: Final = 'telemetry="otel", telemetry=["otel", "powertools"], or a table as in a settings file'


def open_telemetry(given: Given | None) -> tuple[Exporter, ...]:
    """
    The exporters that are *given*, in order; None are none.

    Raises:
        ConfigurationError: One is unknown, or its package is not there, or an option cannot be understood.
    """
    if given is None:
        return ()
    table: Mapping[str, Any] = given if isinstance(given, Mapping) else {"use": given}
    for option in table:
        if option not in _OPTIONS:
            raise ConfigurationError(f"telemetry has no option {option!r}; {_near(str(option), _OPTIONS)}")
    wanted = Wanted(**{option: value for option, value in table.items() if option != "use"})
    use = table.get("use")
    names = [use] if isinstance(use, str) else use
    if not isinstance(names, Iterable):
        raise ConfigurationError(f"telemetry is {given!r}; it is {_HOW_TO}.")
    known = [_known(name) for name in names]
    return tuple([_open(name, wanted) for name in dict.fromkeys(known)])


def _known(name: object) -> str:
    if not isinstance(name, str) or name not in EXPORTERS:
        raise ConfigurationError(f"{name!r} is no telemetry; {_near(str(name), tuple(EXPORTERS))}")
    return name


def _open(name: str, wanted: Wanted) -> Exporter:
    module, _, made = EXPORTERS[name].partition(":")
    exporter: Exporter = getattr(import_module(module), made)(wanted)
    return exporter


def _near(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
