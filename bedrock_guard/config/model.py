"""
What a settings file may say, checked by pydantic, and turned into the frozen nouns.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bedrock_guard.checks import check_allow_up_to
from bedrock_guard.domain.budget import DEFAULT_ALERTS, Budget, parse_budget
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.price_rule import EVERY_METER, PriceRule, parse_price_rule
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.meters import METERS


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class BudgetTable(_Strict):
    """
    One `[budgets.<name>]` table.
    """

    limit: str
    match: dict[str, str] = Field(default_factory=dict)
    per: str | list[str] = Field(default_factory=list)
    alerts: list[float | int] = Field(default_factory=lambda: list(DEFAULT_ALERTS))

    def to_budget(self, name: str) -> Budget:
        """
        The budget that the table describes.

        Raises:
            ConfigurationError: It names the table.
        """
        try:
            return Budget(name, self.limit, match=self.match, per=self.per, alerts=self.alerts)
        except ConfigurationError as error:
            raise ConfigurationError(f"budgets.{name}: {error}") from None


class SinkTable(BaseModel):
    """
    One `[[sinks]]` table: which sink, and its own options, which it checks itself.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    use: str


class SettingsFile(_Strict):
    """
    A whole `bedrock-guard.toml`, or `[tool.bedrock_guard]`.
    """

    budget: str | None = None
    budgets: dict[str, BudgetTable] | None = None
    ledger: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    sinks: list[SinkTable] | None = None
    on_ledger_error: Literal["refuse", "allow"] = "refuse"
    allow_up_to: str | None = None
    on_unpriced: Literal["refuse", "allow", "upper_bound"] = "refuse"
    on_unmetered: Literal["refuse", "allow"] = "refuse"
    on_lost_reply: Literal["charge", "release"] = "charge"
    on_abandoned_stream: Literal["charge", "drain"] = "charge"
    on_expiry: Literal["charge", "release"] = "charge"
    prices: dict[str, dict[str, str]] = Field(default_factory=dict)
    models: dict[str, str] = Field(default_factory=dict)
    resolve_profiles: Literal["off", "lookup"] = "off"
    max_price_age_days: int | None = Field(default=None, gt=0)
    untagged: Literal["shared", "refuse"] = "shared"
    time_zone: str = "UTC"
    keep_entries_days: int | None = Field(default=90, gt=0)
    hold_s: float | int | None = Field(default=None, gt=0, allow_inf_nan=False)

    def to_settings(self) -> Settings:
        """
        The part that the pipeline is told.
        """
        plain = {name: getattr(self, name) for name in Settings.__dataclass_fields__ if name != "prices"}
        return Settings(**plain, prices=self.to_price_rules())

    def to_price_rules(self) -> tuple[PriceRule, ...]:
        """
        The lines of `[prices]`, in order.

        Raises:
            ConfigurationError: One names no meter, or no price that can be meant.
        """
        return tuple(
            _price_rule(models, meter, text)
            for models, table in self.prices.items()
            for meter, text in table.items()
        )

    def check_models(self) -> None:
        """
        Look at `[models]`.

        Raises:
            ConfigurationError: One names no model, or says something of an id that tells its model itself.
        """
        for alias, model in self.models.items():
            known = parse_model_id(alias).model
            if known is not None:
                raise ConfigurationError(
                    f"models.{alias!r} is {known} already; only opaque ids are named here."
                )
            if parse_model_id(model).model is None:
                raise ConfigurationError(
                    f"models.{alias!r}: {model!r} is no model id, such as 'us.anthropic.claude-sonnet-4-6'."
                )

    def to_budgets(self) -> tuple[Budget, ...] | None:
        """
        The budgets, or None when the file names none.
        """
        if self.budget is None and self.budgets is None:
            return None
        single = () if self.budget is None else (parse_budget(self.budget),)
        tables = (self.budgets or {}).items()
        return (*single, *(table.to_budget(name) for name, table in tables))


def _price_rule(models: str, meter: str, text: str) -> PriceRule:
    place = f"prices.{models!r}.{meter}"
    if meter != EVERY_METER and meter not in METERS:
        near = difflib.get_close_matches(meter, METERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f'known are "*", {", ".join(METERS)}.'
        raise ConfigurationError(f"{place} names no meter; {hint}")
    try:
        return parse_price_rule(models, meter, text, unit="" if meter == EVERY_METER else METERS[meter].unit)
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error}") from None


def read_settings(values: Mapping[str, Any], *, where: str, text: str | None = None) -> SettingsFile:
    """
    Check *values*; *where* names their source, *text* is the file's own, for line numbers.

    Raises:
        ConfigurationError: Every key that cannot be understood, with its place and what is allowed.
    """
    try:
        settings = SettingsFile.model_validate(dict(values))
        settings.to_budgets()
        settings.to_price_rules()
        settings.check_models()
        check_allow_up_to(settings.allow_up_to)
    except ValidationError as error:
        problems = [_explain(problem, where, text) for problem in error.errors()]
        raise ConfigurationError("\n".join(dict.fromkeys(problems))) from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}") from None
    return settings


def _explain(problem: Any, where: str, text: str | None) -> str:
    # A union's tag is no part of the path.
    path = [str(part) for part in problem["loc"] if str(part) not in ("float", "int", "str", "list[str]")]
    place = f"{where}{_line(path, text)}: {'.'.join(path)}"
    if problem["type"] != "extra_forbidden":
        return f"{place}: {problem['msg']}, and not {problem['input']!r}."
    known = list((BudgetTable if path[0] == "budgets" else SettingsFile).model_fields)
    near = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
    return f"{place} is no setting; {hint}"


def _line(path: list[str], text: str | None) -> str:
    """
    `, line N` of the key that *path* names in TOML *text*, as far as a look at the lines can tell.
    """
    if text is None:
        return _line(path[:-1], text) if len(path) > 1 else ""
    table = ".".join(path[:-1])
    inside = not table
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            header = stripped.strip("[]").strip().removeprefix("tool.bedrock_guard").lstrip(".")
            if header == ".".join(path):
                return f", line {number}"
            inside = header == table
        elif inside and stripped.partition("=")[0].strip().strip("\"'") == path[-1]:
            return f", line {number}"
    return _line(path[:-1], text) if len(path) > 1 else ""
