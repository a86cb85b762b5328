"""
`bedrock-guard budgets`: which limits are set, and whose they are. No ledger is asked.

Exit codes: 0 done, 2 the settings cannot be understood.
"""

from __future__ import annotations

from typing import Any, Final

from rich.text import Text

from bedrock_guard.cli.reading import BAD_INPUT, Config, Csv, Json, check_forms, fail
from bedrock_guard.cli.safe_text import plain, print_csv, to_json
from bedrock_guard.cli.screen import console, table
from bedrock_guard.config.load import find_settings_file, resolve
from bedrock_guard.domain.budget import Budget, show_amount
from bedrock_guard.domain.globs import show_globs
from bedrock_guard.errors import ConfigurationError

_COLUMNS: Final = ("budget", "limit", "a balance for each", "calls with", "when it is reached", "alerts at")
_CSV: Final = (
    "budget",
    "limit",
    "per",
    "match",
    "limits",
    "burst",
    "on_exceed",
    "mode",
    "alerts",
    "fallback",
    "wait_s",
)


def budgets(*, config: Config = None, as_json: Json = False, as_csv: Csv = False) -> None:
    """
    List the budgets that settings and environment name: their limits, and whose they are.

    `bedrock-guard status` tells what they have left, and `bedrock-guard check` whether they are sound.
    """
    check_forms(as_json, as_csv)
    try:
        found = resolve(settings=config, needs_budget=False).budgets
        path = config or find_settings_file()
    except ConfigurationError as error:
        fail(str(error), BAD_INPUT)
    if as_json:
        shown = [_json(budget) for budget in found]
        print(to_json({"file": None if path is None else str(path), "budgets": shown}))
    elif as_csv:
        print_csv(_CSV, map(_csv, found))
    else:
        _print(found, None if path is None else str(path))


def _print(found: tuple[Budget, ...], path: str | None) -> None:
    out = console()
    out.print(Text(f"Settings: {plain(path, None) if path else 'no file'}"), soft_wrap=True)
    if not found:
        out.print(
            'No budget is set. Write budget = "5 USD/day" in bedrock-guard.toml, or set BEDROCK_GUARD_BUDGET.'
        )
        return
    made = table(_COLUMNS, words=_COLUMNS)
    for budget in found:
        made.add_row(*(Text(plain(cell, 200)) for cell in _cells(budget)))
        for value, limit in budget.limits.items():
            made.add_row("", Text(f"{limit}"), Text(f"{plain(value) or 'untagged'} has its own"))
    out.print(made)


def _cells(budget: Budget) -> list[str]:
    burst = "" if budget.burst is None else f", {show_amount(budget.burst, budget.limit.unit)} at once"
    ends = ["warns" if budget.on_exceed == "warn" else "refuses"]
    ends += [f"tries {', '.join(budget.fallback)}"] if budget.fallback else []
    ends += [f"waits {budget.wait_s:g} s"] if budget.wait_s else []
    ends += ["shadow: only counts"] if budget.mode == "shadow" else []
    return [
        budget.name,
        f"{budget.limit}{burst}",
        ", ".join(budget.per) or "all together",
        ", ".join(f"{tag}={show_globs(globs)}" for tag, globs in budget.match.items()) or "any tags",
        "; ".join(ends),
        ", ".join(f"{share * 100:g} %" for share in budget.alerts),
    ]


def _json(budget: Budget) -> dict[str, Any]:
    return {
        "budget": budget.name,
        "limit": str(budget.limit),
        "per": list(budget.per),
        "match": dict(budget.match),
        "limits": {value: str(limit) for value, limit in budget.limits.items()},
        "burst": None if budget.burst is None else show_amount(budget.burst, budget.limit.unit),
        "on_exceed": budget.on_exceed,
        "mode": budget.mode,
        "alerts": list(budget.alerts),
        "fallback": list(budget.fallback),
        "wait_s": budget.wait_s,
    }


def _csv(budget: Budget) -> dict[str, object]:
    told = _json(budget)
    return {name: to_json(value) if isinstance(value, dict | list) else value for name, value in told.items()}
