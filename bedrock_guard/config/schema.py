"""
The JSON Schema of a settings file, for editors: what is known, of which type, and what it means.
"""

from __future__ import annotations

import re
from inspect import getdoc
from typing import Any

from bedrock_guard.config.model import BreakerTable, BudgetTable, SettingsFile, SinkTable, TelemetryTable
from bedrock_guard.domain.breaker import Breaker
from bedrock_guard.domain.budget import Budget
from bedrock_guard.domain.settings import Settings

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
# What is a setting of the file, and not of the pipeline.
_OTHERS = {
    "budget": "One budget: 5 USD/day, or with a name, search: 5 USD/day.",
    "budgets": "A table for each budget, by its name.",
    "breakers": "A table for each breaker, by its name.",
    "ledger": "URL of the ledger: memory://, sqlite:///path.db, dynamodb://TABLE.",
    "tags": "Tags on every call.",
    "telemetry": "What each call came to, told to OpenTelemetry or CloudWatch.",
    "sinks": "Who is told of alerts: a table for each; without any, the log.",
    "flat_prices": "What one call of service:Operation costs: 0.02 USD, or free.",
    "prices": "What this account pays: a table for each glob of models, meter = price.",
}

_TELEMETRY = {
    "use": "The exporters: otel, powertools, or a list of both.",
    "tags": "Tags whose values are told, too; each value makes metrics of its own.",
    "gen_ai": "Whether names of OpenTelemetry's conventions are told, or only those of bedrock_guard.",
    "service": "The dimension service of powertools.",
}


def settings_schema() -> dict[str, Any]:
    """
    The schema of `bedrock-guard.toml`; what is under `[tool.bedrock_guard]` is the same.
    """
    schema = SettingsFile.model_json_schema()
    schema = {"$schema": _DIALECT, **schema, "title": "bedrock-guard.toml"}
    schema["description"] = "Settings and budgets of bedrock_guard."
    _describe(schema, {**_meanings(Settings), **_OTHERS})
    table = schema["$defs"][BudgetTable.__name__]
    table["description"] = "A limit over a period for the calls that it matches."
    _describe(table, _meanings(Budget))
    breaker = schema["$defs"][BreakerTable.__name__]
    breaker["description"] = (
        "A condition for the calls that it matches; who breaks it is stopped, or told of."
    )
    _describe(breaker, _meanings(Breaker))
    sink = schema["$defs"][SinkTable.__name__]
    sink["description"] = "Who is told of alerts, with its own options."
    _describe(sink, {"use": "The sink: log, webhook, sns, eventbridge, powertools-metrics, or your own."})
    telemetry = schema["$defs"][TelemetryTable.__name__]
    telemetry["description"] = "What each call came to, told to backends; nothing without."
    _describe(telemetry, _TELEMETRY)
    return schema


def _describe(schema: dict[str, Any], meanings: dict[str, str]) -> None:
    for name, each in schema["properties"].items():
        each.pop("title", None)
        if name in meanings:
            each["description"] = meanings[name]


def _meanings(of: type) -> dict[str, str]:
    """
    What the docstring of a class says of its attributes; nothing where docstrings were left out.
    """
    text = (getdoc(of) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: re.sub(r"[`*]", "", " ".join(meaning.split())) for name, meaning in found}
