"""
Alerts to a function of the program's own.
"""

from __future__ import annotations

from collections.abc import Callable

from bedrock_guard.domain.alert import Alert


class FunctionSink:
    """
    Calls it with each alert, in a thread beside the calls.
    """

    def __init__(self, function: Callable[[Alert], object]) -> None:
        self._function = function

    def send(self, alert: Alert) -> None:
        """
        Call it; what it raises is a failure.
        """
        self._function(alert)
