"""
Calls as metrics in CloudWatch's embedded metric format, by aws-lambda-powertools.

Told beside the calls, and before a Lambda function's reply, as alerts are.
"""

from __future__ import annotations

from typing import Final

from bedrock_guard.alerts.powertools import MetricLines
from bedrock_guard.domain.entry import Entry
from bedrock_guard.telemetry.table import FIGURES, NAMES, TAG_DIMENSION, usage_of
from bedrock_guard.telemetry.wanted import Wanted

_DIMENSIONS: Final = [(name.dimension, name.read) for name in NAMES if name.dimension is not None]
_FIGURES: Final = [(figure.emf, figure.emf_unit, figure.read) for figure in FIGURES if figure.emf is not None]


class EmbeddedMetrics:
    """
    One line for each call that ended, and for each that was refused.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._lines = MetricLines(wanted.service)

    def observe(self, entry: Entry) -> None:
        """
        Write the line of *entry*.
        """
        found = {name: read(entry) for name, read in _DIMENSIONS}
        dimensions = {name: str(value) for name, value in found.items() if value is not None}
        for tag, text in self._wanted.tagged(entry.tags).items():
            dimensions[f"{TAG_DIMENSION}{tag}"] = text
        figures: dict[str, tuple[str, float]] = {}
        for name, unit, read in _FIGURES:
            value = read(entry)
            if value is not None:
                figures[name] = unit, value
        for meter, quantity in usage_of(entry).items():
            figures[meter] = "Count", quantity
        self._lines.write(dimensions, figures)
