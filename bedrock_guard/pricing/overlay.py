"""
A user's own copy of AWS's price list, laid over the packaged one: one JSON file.

    {"format": 1, "sha256": "…", "content": {"as_of": "2026-10-06",
     "models": {"<base id>": {"rows": […]}}, "any_model": {"rows": […]}}}

Rows are those of `rows`. The hash is over the content, so that an edit by hand or
a half-written file is seen. What cannot be understood is ignored as a whole, and
loudly: the packaged list prices every call then. So is a list from the future: it
would look fresh for as long as that is to come. Only `sync` writes it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeAlias

from bedrock_guard.errors import ConfigurationError
from bedrock_guard.meters import ANY_MODEL as ANY_MODEL_METERS
from bedrock_guard.meters import FREE, METERS
from bedrock_guard.pricing.rows import STANDARD, Row, read_model

log = logging.getLogger("bedrock_guard")

PRICES_VARIABLE: Final = "BEDROCK_GUARD_PRICES"
FORMAT: Final = 1
ANY_MODEL: Final = "any_model"
_LONGEST_WAIT_S: Final = 60

Content: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Overlay:
    """
    What an overlay file holds.

    Attributes:
        as_of: The day on which AWS published the newest list that is in it.
        models: Base id -> its rows.
        any_model: The rows of what costs the same with every model.
        sha256: Of its content: two overlays that say the same have the same.
    """

    as_of: date
    models: Mapping[str, tuple[Row, ...]]
    any_model: tuple[Row, ...] = ()
    sha256: str = ""


def overlay_path(path: str | os.PathLike[str] | None = None) -> Path:
    """
    Where the overlay is: *path*, else `BEDROCK_GUARD_PRICES`, else the user's state folder.
    """
    named = path or os.environ.get(PRICES_VARIABLE)
    if named:
        return Path(named)
    import platformdirs  # noqa: PLC0415  (imported on use)

    return platformdirs.user_state_path("bedrock-guard", appauthor=False) / "prices.json"


def load_overlay(path: str | os.PathLike[str] | None = None) -> Overlay | None:
    """
    The overlay, or None where there is none, or none that can be used: then with a warning.

    Never raises: a call must not fail because of a file beside it.
    """
    try:
        place = overlay_path(path)
        content = read_content(place)
        return None if content is None else parse_content(place, content)
    except (ConfigurationError, OSError, RuntimeError) as error:
        log.warning("The synced prices are ignored as a whole, and the packaged ones used: %s", error)
        return None


def read_content(path: Path) -> Content | None:
    """
    What the file at *path* holds, its hash checked; None when there is no file.

    Raises:
        ConfigurationError: It is no overlay, a newer one than this version reads, or was edited.
        OSError: It cannot be read.
    """
    try:
        # Reading a pipe could wait for ever.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ConfigurationError(f"{path} is no file.")
        file = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} is not JSON: {error}") from error
    if not isinstance(file, dict) or not isinstance(file.get("content"), dict):
        raise ConfigurationError(f"{path} is no overlay: it has no 'content'.")
    if file.get("format") != FORMAT:
        raise ConfigurationError(
            f"{path} has format {file.get('format')!r}; this version reads {FORMAT}. Sync again, or upgrade."
        )
    content: Content = file["content"]
    if file.get("sha256") != _hash(content):
        raise ConfigurationError(
            f"{path}: its content does not match its sha256, so it was edited or cut. Sync again."
        )
    return content


def parse_content(path: Path, content: Content) -> Overlay:
    """
    The rows of an overlay, every one of them looked at.

    Raises:
        ConfigurationError: One is malformed; the text names it.
    """
    name = f"{path}"
    try:
        as_of = date.fromisoformat(content["as_of"])
        if is_to_come(as_of):
            raise ConfigurationError(f"{name}: it is of {as_of}, which is to come.")
        models = {}
        for model, entry in content["models"].items():
            name = f"{path}, {model}"
            models[model] = _rows(name, entry)
        name = f"{path}, {ANY_MODEL}"
        shared = _rows(name, content.get(ANY_MODEL, {"rows": []}))
        for row in shared:
            _check_any_model(name, row)
        return Overlay(as_of, models, shared, _hash(content))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{name}: not in the shape that is known: {error!r}.") from error


def is_to_come(day: date) -> bool:
    """
    Whether *day* is after tomorrow: no price list can have been published then, in any time zone.
    """
    return day > datetime.now(UTC).date() + timedelta(days=1)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """
    The right to replace the overlay at *path*, held by one process at a time.

    Raises:
        ConfigurationError: Another has held it for a minute.
        OSError: There can be no lock beside the file.
    """
    import sqlite3  # noqa: PLC0415  (imported on use)

    path = _target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    # An empty database: the one lock of the standard library that all platforms free when its holder dies.
    try:
        connection = sqlite3.connect(lock, timeout=_LONGEST_WAIT_S, isolation_level=None)
        with closing(connection):
            connection.execute("BEGIN EXCLUSIVE")
            yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise ConfigurationError(f"{path} is being written by another sync. Try again.") from error
        raise OSError(f"{lock}: {error}") from error


def write_overlay(path: Path, content: Content) -> None:
    """
    Replace the file at *path*, or what a link there points to, whole or not at all.

    Raises:
        ConfigurationError: *content* would not be read back.
        OSError: It cannot be written.
    """
    parse_content(path, content)
    path = _target(path)
    file = {"format": FORMAT, "sha256": _hash(content), "content": content}
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(file, out, indent=1)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        # Prices are no secret, and who runs the program may be another user than who syncs.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _target(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _rows(name: str, entry: Mapping[str, Any]) -> tuple[Row, ...]:
    rows = read_model(name, entry, "overlay").rows
    if not all(isinstance(row["where"], list) for row in entry["rows"]):
        raise ConfigurationError(f"{name}: a row's 'where' is a list of places.")
    for row in rows:
        _check_meters(name, row)
        above, start, end = row.above_input_tokens, row.effective_from, row.effective_to
        if not row.where or not all(isinstance(place, str) and place for place in row.where):
            raise ConfigurationError(f"{name}: a row's 'where' is a list of places.")
        if type(above) is not int or above < 0:
            raise ConfigurationError(f"{name}: 'above_input_tokens' is a whole number, not {above!r}.")
        if not isinstance(row.variant, str):
            raise ConfigurationError(f"{name}: {row.variant!r} is no service tier.")
        if start is not None and end is not None and end <= start:
            raise ConfigurationError(f"{name}: a row ends on {end}, before it begins on {start}.")
    return rows


def _check_meters(name: str, row: Row) -> None:
    if not row.prices:
        raise ConfigurationError(f"{name}: a row has no price.")
    for meter, steps in row.prices.items():
        if meter not in METERS:
            raise ConfigurationError(f"{name}: {meter!r} is no meter; known are {', '.join(METERS)}.")
        if steps == 0 and meter not in FREE:
            raise ConfigurationError(
                f"{name}: {meter} is not free; AWS says so of {', '.join(sorted(FREE))}."
            )
    published = {origin.published for origin in row.origins.values()}
    if any(day is not None and is_to_come(day) for day in published):
        raise ConfigurationError(f"{name}: a row was published on a day that is to come.")


def _check_any_model(name: str, row: Row) -> None:
    if row.variant != STANDARD or row.above_input_tokens:
        raise ConfigurationError(f"{name}: a price for every model is one for all tiers and bands.")
    for meter in row.prices:
        if meter not in ANY_MODEL_METERS:
            raise ConfigurationError(f"{name}: {meter} has a price of its own with each model.")


def _hash(content: Content) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
