"""
A run: a program, and what it starts, under a guard that it does not know of.

    open_run -----> environment ------> sitecustomize -------> open_guards
    the command     what the program    of each Python that    once that makes a
                    inherits            the program starts     session of botocore

What was resolved travels in the environment, not the file that it came from: a program that can write
files must not edit its own limit. A run inside a run adds to it, and both must admit a call.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from bedrock_guard.alerts import Given
from bedrock_guard.bill import Bill, read_bill
from bedrock_guard.config.load import UNNAMED, read_values, resolve
from bedrock_guard.domain.budget import Budget
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.ledgers.sqlite import read_path
from bedrock_guard.telemetry import Given as TelemetryGiven
from bedrock_guard.wiring import Guard

RUNS_VARIABLE: Final = "BEDROCK_GUARD_RUNS"
"""The runs that a process is in, the outermost first."""

FOLDER_VARIABLE: Final = "BEDROCK_GUARD_RUN"
"""The folder of the innermost."""

RUN_TAG: Final = "run"
"""On every call of a run: its id."""

_STARTUP: Final = Path(__file__).parent / "startup"
_SEEN: Final = "seen"
_NAME: Final = "run"
# Linux takes 128 KiB in one variable.
_MOST_BYTES: Final = 120_000
_NO_BUDGET: Final = """\
No budget is set, so nothing would be limited. Write one of:
    bedrock-guard run --budget "5 USD" -- python agent.py
    bedrock-guard run --config bedrock-guard.toml -- python agent.py
A settings file counts only where it is named: a program must not edit its own limit."""


@dataclass(frozen=True, slots=True)
class Run:
    """
    One run, as it travels.

    Attributes:
        id: Also the value of the tag `run` of its calls.
        folder: Its own, for as long as it lasts.
        settings: What a settings file would say: budgets, the ledger's URL, tags and all else.
        is_alone: Whether its ledger is in its folder, and ends with it.
    """

    id: str
    folder: str
    settings: Mapping[str, Any]
    is_alone: bool

    @property
    def ledger(self) -> str:
        """
        Its URL.
        """
        return str(self.settings["ledger"])

    @property
    def is_seen(self) -> bool:
        """
        Whether any Python has started under it.
        """
        return (Path(self.folder) / _SEEN).exists()


class RunGuard(Guard):
    """
    The guard of a run.
    """

    covers_program = True

    def __init__(
        self, run: Run, *, sinks: Iterable[Given] | None = None, telemetry: TelemetryGiven | None = None
    ) -> None:
        super().__init__(settings=run.settings, sinks=sinks, telemetry=telemetry)
        self._run = run

    def bill(self) -> Bill:
        """
        What the calls of the run came to, so far.
        """
        # A ledger that others use holds their calls, too.
        filters = {} if self._run.is_alone else {"tags": {RUN_TAG: self._run.id}}
        return read_bill(self.entries(**filters))


def open_run(
    folder: Path,
    *,
    budgets: Iterable[str] = (),
    config: str | None = None,
    ledger: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Run:
    """
    A run by these arguments; those that are missing come from the environment, and from a file that is named.

    Budgets for all time are for the run. Where all are, and no ledger is named, its ledger is in *folder*;
    with a period, it is one that runs of this user share, and that other programs do not use.

    Raises:
        ConfigurationError: Something cannot be understood, or no budget is set.
    """
    file = config or os.environ.get("BEDROCK_GUARD_CONFIG")
    values = read_values(Path(file))[0] if file else {}
    texts = list(budgets)
    if not texts and not {"budget", "budgets"} & values.keys():
        texts = [text for text in [os.environ.get("BEDROCK_GUARD_BUDGET")] if text]
        if not texts:
            raise ConfigurationError(_NO_BUDGET)
    # Looked at as what the file says, so that a mistake is told with its line.
    resolved = resolve(budgets=texts or None, settings=file or {}, has_ledger=True, tags=tags)
    url = ledger or values.get("ledger") or os.environ.get("BEDROCK_GUARD_LEDGER")
    is_alone = url is None and all(map(_is_lifetime, resolved.budgets))
    id_ = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.urandom(2).hex()}"
    if texts:
        names = _names(resolved.budgets, id_, is_own=url is None, is_alone=is_alone)
        values = {name: value for name, value in values.items() if name != "budget"}
        values["budgets"] = {
            name: {"limit": str(budget.limit)} for name, budget in zip(names, resolved.budgets, strict=True)
        }
    place = _sqlite_url(folder / "ledger.db") if is_alone else _shared_url() if url is None else _fixed(url)
    all_tags = {**resolved.tags, RUN_TAG: id_}
    return Run(id_, str(folder), {**values, "ledger": place, "tags": all_tags}, is_alone)


def environment(run: Run, base: Mapping[str, str]) -> dict[str, str]:
    """
    *base*, in which every Python is guarded by *run*, and by the runs that it is in already.

    Raises:
        ConfigurationError: The settings are too large for a variable.
    """
    text = json.dumps([*json.loads(base.get(RUNS_VARIABLE, "[]")), asdict(run)], default=str)
    if len(text) > _MOST_BYTES:
        raise ConfigurationError(
            f"The settings of this run are {len(text):,} bytes long; an environment variable carries "
            f"{_MOST_BYTES:,}. Leave out what it does not need."
        )
    startup, paths = str(_STARTUP), base.get("PYTHONPATH")
    others = [] if not paths else [path for path in paths.split(os.pathsep) if path != startup]
    return {
        **base,
        RUNS_VARIABLE: text,
        FOLDER_VARIABLE: run.folder,
        "PYTHONPATH": os.pathsep.join([startup, *others]),
    }


def open_guards() -> tuple[RunGuard, ...]:
    """
    The guards of the runs that this process is in; the last is of the innermost.

    Raises:
        ConfigurationError: It is in none, or one cannot be understood, as of another version.
        LedgerUnavailable: A ledger cannot be opened.
    """
    text = os.environ.get(RUNS_VARIABLE)
    if not text:
        raise ConfigurationError(f"{RUNS_VARIABLE} has been taken out of the environment")
    return tuple(RunGuard(Run(**each)) for each in json.loads(text))


def _names(budgets: Iterable[Budget], id_: str, *, is_own: bool, is_alone: bool) -> list[str]:
    """
    What the *budgets* of a command are called in its ledger, where those for all time start afresh.
    """
    names: list[str] = []
    for budget in budgets:
        is_lifetime = _is_lifetime(budget)
        is_unnamed = budget.name == UNNAMED and (is_own or is_lifetime)
        name = _NAME if is_unnamed else budget.name
        if is_lifetime and not is_alone:
            name = f"{name}-{id_}"
        count = names.count(name)
        names.append(name)
        if count:
            raise ConfigurationError(
                f"Two budgets are named {name!r}; give each a name: --budget 'money: 5 USD' "
                "--budget 'calls: 100 requests'."
            )
    return names


def _is_lifetime(budget: Budget) -> bool:
    return budget.limit.period.unit == "lifetime"


def _shared_url() -> str:
    import platformdirs  # noqa: PLC0415  (imported on use)

    return _sqlite_url(platformdirs.user_state_path("bedrock-guard", appauthor=False) / "run.db")


def _sqlite_url(path: Path) -> str:
    return f"sqlite:///{quote(path.absolute().as_posix())}"


def _fixed(url: str) -> str:
    """
    *url*, as it is wherever a program goes from here.

    Raises:
        ConfigurationError: It is of one process only.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "memory":
        raise ConfigurationError(
            f"{url!r} is one process's, and a program may start others. Where no ledger is named, a run has "
            "a file of its own, which ends with it."
        )
    if scheme != "sqlite":
        return url
    query = rest.partition("?")[2]
    return _sqlite_url(Path(read_path(url)[0])) + (f"?{query}" if query else "")
