"""
Where settings come from, strongest first: arguments, environment, a file.

`BEDROCK_GUARD_BUDGET`, `BEDROCK_GUARD_LEDGER` and `BEDROCK_GUARD_CONFIG` are
read. Without the last, `bedrock-guard.toml` or `[tool.bedrock_guard]` in
`pyproject.toml` is looked for from the working folder upwards; in Lambda and
ECS only a file that is named counts.
"""

from __future__ import annotations

import logging
import os
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bedrock_guard.checks import (
    check_breaker_names,
    check_breakers,
    check_budgets,
    check_ledger_error,
    check_tag_mapping,
    check_tags_to_aws,
)
from bedrock_guard.domain.breaker import Breaker, parse_breaker
from bedrock_guard.domain.budget import Budget, parse_budget
from bedrock_guard.domain.settings import Settings
from bedrock_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from bedrock_guard.config.model import SettingsFile

log = logging.getLogger("bedrock_guard")

DEFAULT_SINKS: Final = ("log",)
"""Who is told of alerts where nobody is named."""

UNNAMED: Final = "default"
"""The name of a budget that was given none."""

_FILE: Final = "bedrock-guard.toml"
_LAMBDA: Final = "AWS_LAMBDA_FUNCTION_NAME"
# Seen in the environment of hosts that come and go, each with a disk of its own.
_CONTAINERS: Final = {
    "ECS_CONTAINER_METADATA_URI_V4": "ECS or Fargate",
    "ECS_CONTAINER_METADATA_URI": "ECS or Fargate",
    "KUBERNETES_SERVICE_HOST": "Kubernetes",
}
# Ledgers of a whole account.
_SHARED: Final = frozenset(["dynamodb"])
_HOW_TO: Final = """\
No budget is set, so nothing would be limited. Write one of:
    guarded_client("bedrock-runtime", budget="5 USD/day")
    budget = "5 USD/day"          # in bedrock-guard.toml
(budgets=[] records calls without limiting them.)"""


@dataclass(frozen=True)
class Resolved:
    """
    What a guard is made of, checked.

    Attributes:
        ledger: A URL; None when the caller gave a ledger object.
        sinks: Who is told of alerts, as the file says; they are no part of what is enforced.
        sink_places: Where the file says so.
        ledger_place: Where the file names the ledger; None where it does not.
        telemetry: What is told of calls, as the file says; no part of what is enforced either.
        telemetry_place: Where the file says so.
    """

    settings: Settings
    budgets: tuple[Budget, ...]
    ledger: str | None
    tags: Mapping[str, str]
    breakers: tuple[Breaker, ...] = ()
    sinks: tuple[str | Mapping[str, Any], ...] = field(default=DEFAULT_SINKS, compare=False)
    sink_places: tuple[Callable[[], str], ...] = field(default=(), compare=False)
    ledger_place: Callable[[], str] | None = field(default=None, compare=False)
    telemetry: Mapping[str, Any] | None = field(default=None, compare=False)
    telemetry_place: Callable[[], str] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class NoFile:
    """
    What a file says that is not there; pydantic is not imported to read nothing.
    """

    ledger: None = None
    sinks: None = None
    telemetry: None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def place(self, *path: str) -> str:
        """
        As of a mapping that was given.
        """
        return f"settings=: {'.'.join(path)}"

    def to_settings(self) -> Settings:
        """
        The defaults.
        """
        return Settings()

    def to_budgets(self) -> None:
        """
        None are named.
        """

    def to_breakers(self) -> tuple[Breaker, ...]:
        """
        Nor breakers.
        """
        return ()


@contextmanager
def at(place: Callable[[], str] | None) -> Iterator[None]:
    """
    Says of a mistake where it was written, if that is known.
    """
    try:
        yield
    except ConfigurationError as error:
        if place is None:
            raise
        raise ConfigurationError(f"{place()}: {error}") from None


def resolve(
    *,
    budget: str | Budget | None = None,
    budgets: Iterable[Budget | str] | None = None,
    breakers: Iterable[Breaker | str] | None = None,
    ledger: str | None = None,
    has_ledger: bool = False,
    needs_names: bool = False,
    settings: str | os.PathLike[str] | Mapping[str, Any] | Settings | None = None,
    tags: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    needs_budget: bool = True,
) -> Resolved:
    """
    Settings, budgets and the ledger's URL from every source.

    *has_ledger* is for one that is given as an object, and *needs_names* what it says of itself. Who only
    looks on does not need a budget.

    Raises:
        ConfigurationError: Something cannot be understood, or no budget is set anywhere.
    """
    if budget is not None and budgets is not None:
        raise ConfigurationError("budget= and budgets= were both given; write all budgets in budgets=[...].")
    base, file = _base(settings)
    merged = _with_overrides(base, overrides or {})
    is_the_files = {"on_ledger_error", "allow_up_to"}.isdisjoint(overrides or ())
    with at(partial(file.place, "on_ledger_error") if is_the_files else None):
        check_ledger_error(merged)
    check_tags_to_aws(merged.tags_to_aws)
    found = _budgets(budget, budgets, file, is_argument=settings is not None)
    if found is None and needs_budget:
        raise ConfigurationError(_HOW_TO)
    found = found or ()
    # settings= is an argument: what it says is not for the environment to overrule.
    stronger, weaker = (file.ledger, None) if settings is not None else (None, file.ledger)
    url = None if has_ledger else ledger or stronger or os.environ.get("BEDROCK_GUARD_LEDGER") or weaker
    ledger_place = partial(file.place, "ledger") if url is not None and url is file.ledger else None
    if needs_names or (url or "").partition("://")[0] in _SHARED:
        with at(ledger_place):
            _check_names(found)
    tripping = file.to_breakers() if breakers is None else _breakers(breakers)
    check_breaker_names(tripping, found)
    return Resolved(
        settings=merged,
        budgets=found,
        breakers=tripping,
        ledger=url if has_ledger or url else default_ledger_url(),
        ledger_place=ledger_place,
        tags={**file.tags, **check_tag_mapping("tags", tags or {})},
        sinks=DEFAULT_SINKS if file.sinks is None else tuple(table.model_dump() for table in file.sinks),
        sink_places=tuple(
            partial(file.place, "sinks", str(number)) for number in range(len(file.sinks or ()))
        ),
        telemetry=None if file.telemetry is None else file.telemetry.model_dump(),
        telemetry_place=partial(file.place, "telemetry"),
    )


def default_ledger_url() -> str:
    """
    SQLite in the user's state folder, so that every process of this user shares it.

    Raises:
        ConfigurationError: In Lambda, where no disk outlives or is shared beyond one environment.
    """
    import platformdirs  # noqa: PLC0415  (imported on use)

    if is_lambda():
        raise ConfigurationError(
            "In Lambda every execution environment has a disk of its own, so a default ledger would give "
            "each one the whole budget. Name a table that they share, ledger='dynamodb://my-budgets', made "
            "by bedrock-guard dynamodb create-table; ledger='sqlite:////tmp/ledger.db' says that a budget "
            "for each environment is what you want."
        )
    for variable, host in _CONTAINERS.items():
        if os.environ.get(variable):
            log.warning(
                "On %s the default SQLite ledger is on this container's disk: the budget holds for it alone.",
                host,
            )
            break
    path = platformdirs.user_state_path("bedrock-guard", appauthor=False) / "ledger.db"
    return f"sqlite:///{path.as_posix()}"


def _base(
    settings: str | os.PathLike[str] | Mapping[str, Any] | Settings | None,
) -> tuple[Settings, SettingsFile | NoFile]:
    if isinstance(settings, Settings):
        return settings, NoFile()
    file: SettingsFile | NoFile
    if isinstance(settings, Mapping):
        from bedrock_guard.config.model import read_settings  # noqa: PLC0415  (pydantic is imported on use)

        file = read_settings(settings, where="settings=")
    elif isinstance(settings, str | os.PathLike):
        file = _read_file(Path(settings))
    elif settings is not None:
        raise ConfigurationError(f"settings is {settings!r}; it is a path, a mapping, or a Settings.")
    else:
        found = find_settings_file()
        file = NoFile() if found is None else _read_file(found)
    return file.to_settings(), file


def _with_overrides(base: Settings, overrides: Mapping[str, Any]) -> Settings:
    if not overrides:
        return base
    from bedrock_guard.config.model import read_settings  # noqa: PLC0415

    unknown = [name for name in overrides if name not in Settings.__dataclass_fields__]
    if unknown:
        known = ", ".join(Settings.__dataclass_fields__)
        raise ConfigurationError(f"{unknown[0]!r} is no setting; known are {known}.")
    stronger = read_settings(overrides, where="arguments").to_settings()
    return replace(base, **{name: getattr(stronger, name) for name in overrides})


def _budgets(
    budget: str | Budget | None,
    budgets: Iterable[Budget | str] | None,
    file: SettingsFile | NoFile,
    *,
    is_argument: bool,
) -> tuple[Budget, ...] | None:
    if budgets is not None:
        return tuple(
            each if isinstance(each, Budget) else parse_budget(each) for each in check_budgets(budgets)
        )
    if budget is not None:
        return (budget if isinstance(budget, Budget) else parse_budget(budget),)
    in_file = file.to_budgets()
    if is_argument and in_file is not None:
        return in_file
    if named := os.environ.get("BEDROCK_GUARD_BUDGET"):
        try:
            return (parse_budget(named),)
        except ConfigurationError as error:
            raise ConfigurationError(f"BEDROCK_GUARD_BUDGET: {error}") from None
    return in_file


def _breakers(breakers: Iterable[Breaker | str]) -> tuple[Breaker, ...]:
    return tuple(
        each if isinstance(each, Breaker) else parse_breaker(each) for each in check_breakers(breakers)
    )


def _check_names(budgets: Iterable[Budget]) -> None:
    """
    A ledger that services share needs budgets that have names: unnamed ones would be one by accident.
    """
    unnamed = next((each for each in budgets if each.name == UNNAMED), None)
    if unnamed is not None:
        raise ConfigurationError(
            "This ledger may be shared by services that know nothing of each other, so a budget needs a "
            f"name of its own: write 'search: {unnamed.limit}'."
        )


def is_lambda() -> bool:
    """
    Whether this is a Lambda function, where what is done before the first call costs no caller.
    """
    return bool(os.environ.get(_LAMBDA))


def is_hosted() -> bool:
    """
    Whether this is Lambda or a container: what lies on its disk may be the program's own doing, and counts
    only where it is named.
    """
    return any(os.environ.get(variable) for variable in (_LAMBDA, *_CONTAINERS))


def find_settings_file() -> Path | None:
    """
    The settings file in force where none is named in the program; None where there is none.
    """
    if named := os.environ.get("BEDROCK_GUARD_CONFIG"):
        return Path(named)
    if is_hosted():
        return None
    folder = Path.cwd()
    for parent in (folder, *folder.parents):
        own, shared = parent / _FILE, parent / "pyproject.toml"
        if own.is_file():
            return own
        if shared.is_file() and _has_our_table(shared):
            return shared
    return None


def _has_our_table(path: Path) -> bool:
    text = path.read_text("utf-8", "replace")
    if "bedrock_guard" not in text:
        return False
    try:
        tool = tomllib.loads(text).get("tool")
    except tomllib.TOMLDecodeError:
        return True  # it is read, and the mistake told
    return isinstance(tool, dict) and "bedrock_guard" in tool


def _read_file(path: Path) -> SettingsFile:
    from bedrock_guard.config.model import read_settings  # noqa: PLC0415

    values, text = read_values(path)
    return read_settings(values, where=str(path), text=text)


def read_values(path: Path) -> tuple[dict[str, Any], str]:
    """
    What the settings file *path* says, not looked at yet, and its text.

    Raises:
        ConfigurationError: It cannot be read, or is no TOML.
    """
    try:
        raw = path.read_bytes()
        values = tomllib.loads(raw.decode())
    except OSError as error:
        raise ConfigurationError(f"Settings file {str(path)!r} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Settings file {str(path)!r} is no TOML: {error}.") from error
    if path.name == "pyproject.toml":
        values = values.get("tool", {}).get("bedrock_guard", {})
    digest = sha256(raw).hexdigest()[:12]
    log.info("Settings are read from %s (sha256 %s).", path, digest)
    return values, raw.decode()
