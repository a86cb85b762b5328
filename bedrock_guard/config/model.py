"""
What a settings file may say, checked by pydantic, and turned into the frozen nouns.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from bedrock_guard.checks import check_allow_up_to, check_tags_to_aws
from bedrock_guard.config.places import find_line
from bedrock_guard.context import check_tags
from bedrock_guard.domain.breaker import Breaker, parse_condition
from bedrock_guard.domain.budget import Budget, parse_budget, parse_limit
from bedrock_guard.domain.flat_price import parse_flat_price
from bedrock_guard.domain.globs import read_match
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.domain.price_rule import EVERY_METER, PriceRule, parse_price_rule
from bedrock_guard.domain.settings import Settings
from bedrock_guard.domain.zones import open_zone
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.meters import METERS

T = TypeVar("T")

# What pydantic adds to the place of a mistake in a value that may be of several types.
_UNION_TAGS: Final = frozenset(["float", "int", "str", "bool", "list[str]"])
_SHOULD_BE: Final = "Input should be "
_BARE: Final = re.compile("[A-Za-z0-9_-]+")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class BudgetTable(_Strict):
    """
    One `[budgets.<name>]` table.
    """

    limit: str | None = None
    match: dict[str, str | list[str]] = Field(default_factory=dict)
    per: str | list[str] = Field(default_factory=list)
    limits: dict[str, str] | None = None
    on_exceed: Literal["refuse", "warn"] = "refuse"
    mode: Literal["enforce", "shadow"] = "enforce"
    burst: float | int | str | None = None
    alerts: list[float | int] | None = None
    fallback: str | list[str] = Field(default_factory=list)
    wait_s: float | int = 0.0

    def to_budget(self, name: str) -> Budget:
        """
        The budget that the table describes.

        Raises:
            ConfigurationError: It cannot be understood.
        """
        here = ("budgets", name)
        if self.limit is not None:
            _at((*here, "limit"), parse_limit, self.limit)
        for tag, globs in self.match.items():
            _at((*here, "match", tag), read_match, f"Budget {name!r}", {tag: globs})
        for value, limit in (self.limits or {}).items():
            _at((*here, "limits", value), parse_limit, limit)
        given = self.model_dump(exclude={"limit"})
        return _at(here, partial(Budget, name, self.limit, **given))


class BreakerTable(_Strict):
    """
    One `[breakers.<name>]` table.
    """

    condition: str
    match: dict[str, str | list[str]] = Field(default_factory=dict)
    per: str | list[str] = Field(default_factory=list)
    on_trip: Literal["refuse", "warn"] = "refuse"
    resume_after_s: float | int | None = Field(default=None, gt=0, allow_inf_nan=False)
    mode: Literal["enforce", "shadow"] = "enforce"

    def to_breaker(self, name: str) -> Breaker:
        """
        The breaker that the table describes.

        Raises:
            ConfigurationError: It cannot be understood.
        """
        here = ("breakers", name)
        _at((*here, "condition"), parse_condition, self.condition)
        for tag, globs in self.match.items():
            _at((*here, "match", tag), read_match, f"Breaker {name!r}", {tag: globs})
        return _at(here, partial(Breaker, name, **self.model_dump()))


class SinkTable(BaseModel):
    """
    One `[[sinks]]` table: which sink, and its own options, which it checks itself.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    use: str


class TelemetryTable(_Strict):
    """
    The `[telemetry]` table.
    """

    use: str | list[str]
    tags: list[str] = Field(default_factory=list)
    gen_ai: bool = True
    service: str = "bedrock"


class SettingsFile(_Strict):
    """
    A whole `bedrock-guard.toml`, or `[tool.bedrock_guard]`.
    """

    budget: str | None = None
    budgets: dict[str, BudgetTable] | None = None
    breakers: dict[str, BreakerTable] = Field(default_factory=dict)
    ledger: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    mode: Literal["enforce", "shadow"] = "enforce"
    sinks: list[SinkTable] | None = None
    telemetry: TelemetryTable | None = None
    on_ledger_error: Literal["refuse", "allow"] = "refuse"
    allow_up_to: str | None = None
    on_unpriced: Literal["refuse", "allow", "upper_bound"] = "refuse"
    on_unmetered: Literal["refuse", "allow"] = "refuse"
    flat_prices: dict[str, str] = Field(default_factory=dict)
    on_lost_reply: Literal["charge", "release"] = "charge"
    on_abandoned_stream: Literal["charge", "drain"] = "charge"
    stream_cutoff: Literal["off", "on_stop"] = "off"
    on_expiry: Literal["charge", "release"] = "charge"
    prices: dict[str, dict[str, str]] = Field(default_factory=dict)
    models: dict[str, str] = Field(default_factory=dict)
    resolve_profiles: Literal["off", "lookup"] = "off"
    max_price_age_days: int | None = Field(default=None, gt=0)
    clamp: Literal["unset", "always", "never"] = "unset"
    clamp_share: float | int = Field(default=0.25, gt=0, le=1, allow_inf_nan=False)
    min_output_tokens: int = Field(default=256, gt=0)
    refine: Literal["off", "count_tokens"] = "off"
    batch_input: Literal["off", "read"] = "off"
    untagged: Literal["shared", "refuse"] = "shared"
    principal: Literal["off", "lookup"] = "off"
    tags_to_aws: bool | list[str] = False
    time_zone: str = "UTC"
    keep_entries_days: int | None = Field(default=90, gt=0)
    control_refresh_s: float | int = Field(default=2.0, gt=0, allow_inf_nan=False)
    hold_s: float | int | None = Field(default=None, gt=0, allow_inf_nan=False)

    _source: tuple[str, str | None] = PrivateAttr(default=("settings", None))

    @field_validator("tags_to_aws", mode="before")
    @classmethod
    def _as_list(cls, named: object) -> object:
        return list(named) if isinstance(named, tuple) else named  # as an argument has it

    def place(self, *path: str) -> str:
        """
        Where the key *path* is written: the file, its line, and the key.
        """
        return _place(path, *self._source)

    def to_settings(self) -> Settings:
        """
        The part that the pipeline is told.
        """
        plain = {name: getattr(self, name) for name in Settings.__dataclass_fields__ if name not in _MADE}
        named = self.tags_to_aws
        return Settings(
            **plain,
            prices=self.to_price_rules(),
            flat_prices=self.to_flat_prices(),
            tags_to_aws=named if isinstance(named, bool) else tuple(named),
        )

    def to_price_rules(self) -> tuple[PriceRule, ...]:
        """
        The lines of `[prices]`, in order.

        Raises:
            ConfigurationError: One names no meter, or no price that can be meant.
        """
        return tuple(
            _at(("prices", models, meter), _price_rule, models, meter, text)
            for models, table in self.prices.items()
            for meter, text in table.items()
        )

    def to_flat_prices(self) -> dict[str, int]:
        """
        The lines of `[flat_prices]`, in steps of 1e-16 USD.

        Raises:
            ConfigurationError: One names no operation, or no price.
        """
        return {
            key: _at(("flat_prices", key), parse_flat_price, key, text)
            for key, text in self.flat_prices.items()
        }

    def check_models(self) -> None:
        """
        Look at `[models]`.

        Raises:
            ConfigurationError: One names no model, or says something of an id that tells its model itself.
        """
        for alias, model in self.models.items():
            _at(("models", alias), _check_alias, alias, model)

    def to_budgets(self) -> tuple[Budget, ...] | None:
        """
        The budgets, or None when the file names none.
        """
        if self.budget is None and self.budgets is None:
            return None
        single = () if self.budget is None else (_at(("budget",), parse_budget, self.budget),)
        tables = (self.budgets or {}).items()
        return (*single, *(table.to_budget(name) for name, table in tables))

    def to_breakers(self) -> tuple[Breaker, ...]:
        """
        The breakers.
        """
        return tuple(table.to_breaker(name) for name, table in self.breakers.items())

    def check(self) -> None:
        """
        Look at what types cannot tell.

        Raises:
            ConfigurationError: Something cannot be understood.
        """
        first = (self.to_budgets() or (None,))[0]
        if self.budget is not None and first is not None and first.name in (self.budgets or {}):
            message = f"{first.name!r} is the name of a table in [budgets], too; names are unique in a guard."
            raise _MisplacedError(("budget",), message)
        self.to_breakers()
        self.to_price_rules()
        self.to_flat_prices()
        self.check_models()
        for tag, value in self.tags.items():
            _at(("tags", tag), check_tags, {tag: value})
        _at(("allow_up_to",), check_allow_up_to, self.allow_up_to)
        _at(("time_zone",), open_zone, self.time_zone)
        _at(("tags_to_aws",), check_tags_to_aws, self.tags_to_aws)


# Whose keys are told where one is unknown; else those of the file.
_TABLES: Final[dict[str, type[_Strict]]] = {
    "budgets": BudgetTable,
    "breakers": BreakerTable,
    "telemetry": TelemetryTable,
}

# Settings that are not what the file says, word for word.
_MADE: Final = ("prices", "flat_prices", "tags_to_aws")


class _MisplacedError(ConfigurationError):
    """
    A mistake whose place in the file is known: *path* names its key.
    """

    def __init__(self, path: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.path = path


def _at(path: tuple[str, ...], read: Callable[..., T], *arguments: object) -> T:
    """
    What *read* returns of the value at *path*.
    """
    try:
        return read(*arguments)
    except ConfigurationError as error:
        raise _MisplacedError(path, str(error)) from None


def _check_alias(alias: str, model: str) -> None:
    known = parse_model_id(alias).model
    if known is not None:
        raise ConfigurationError(f"{alias!r} is {known} already; only opaque ids are named here.")
    if parse_model_id(model).model is None:
        raise ConfigurationError(f"{model!r} is no model id, such as 'us.anthropic.claude-sonnet-4-6'.")


def _price_rule(models: str, meter: str, text: str) -> PriceRule:
    if meter != EVERY_METER and meter not in METERS:
        near = difflib.get_close_matches(meter, METERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f'known are "*", {", ".join(METERS)}.'
        raise ConfigurationError(f"{meter!r} is no meter; {hint}")
    return parse_price_rule(models, meter, text, unit="" if meter == EVERY_METER else METERS[meter].unit)


def read_settings(values: Mapping[str, Any], *, where: str, text: str | None = None) -> SettingsFile:
    """
    Check *values*; *where* names their source, *text* is the file's own, for line numbers.

    Raises:
        ConfigurationError: Every key that cannot be understood, with its place and what is allowed.
    """
    try:
        settings = SettingsFile.model_validate(dict(values))
        settings._source = where, text  # noqa: SLF001 - its own, which no file says
        settings.check()
    except ValidationError as error:
        raise ConfigurationError("\n".join(_explain(error, where, text))) from None
    except _MisplacedError as error:
        is_named = str(error).startswith(error.path[-1])
        raise ConfigurationError(f"{_place(error.path, where, text, is_named=is_named)}: {error}") from None
    return settings


def _explain(error: ValidationError, where: str, text: str | None) -> Iterator[str]:
    """
    A line for each key; one that may be of several types has a problem for each of them.
    """
    by_path: dict[tuple[str, ...], list[Any]] = {}
    for problem in error.errors():
        # A union's tag is no part of the path.
        path = tuple([str(part) for part in problem["loc"] if str(part) not in _UNION_TAGS])
        by_path.setdefault(path, []).append(problem)
    for path, problems in by_path.items():
        first, place = problems[0], _place(path, where, text)
        if first["type"] != "extra_forbidden":
            others = [f" or {each['msg'].removeprefix(_SHOULD_BE)}" for each in problems[1:]]
            yield f"{place}: {first['msg']}{''.join(others)}, and not {first['input']!r}."
            continue
        known = list(_TABLES.get(path[0], SettingsFile).model_fields)
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
        yield f"{place} is no setting; {hint}"


def _place(path: Sequence[str], where: str, text: str | None, *, is_named: bool = False) -> str:
    line = None if text is None else find_line(path, text)
    key = "" if is_named else ": " + ".".join(part if _BARE.fullmatch(part) else repr(part) for part in path)
    return f"{where}{'' if line is None else f', line {line}'}{key}"
