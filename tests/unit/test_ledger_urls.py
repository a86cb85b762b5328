"""
Ledgers are opened by URL; one that cannot be understood says what would be.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bedrock_guard.errors import ConfigurationError
from bedrock_guard.ledgers import LEDGERS, open_ledger
from bedrock_guard.ledgers.memory import MemoryLedger
from bedrock_guard.ledgers.sqlite import SQLiteLedger
from bedrock_guard.testing.ledger_calls import SetClock, books, hold


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://x", "No ledger is registered for 'redis://x'. Known: memory://, sqlite://"),
        ("ledger.db", "No ledger is registered for 'ledger.db'. Known: memory://, sqlite://"),
        ("", "No ledger is registered for ''. Known: memory://, sqlite://"),
        ("memory", "No ledger is registered for 'memory'. Known: memory://, sqlite://"),
        ("memory://name", "'memory://name': a ledger in memory has no name; write memory://."),
        ("memory://?keep=1", "'keep' is no parameter of memory://. Known: keep_entries."),
        ("memory://?keep_entries=0", "keep_entries cannot be '0'. Allowed: a whole number above 0."),
        ("memory://?keep_entries=", "keep_entries cannot be ''. Allowed: a whole number above 0."),
        (
            "sqlite://",
            "'sqlite://' names no file. Write sqlite:///relative.db or sqlite:////absolute/path.db.",
        ),
        ("sqlite:///", "'sqlite:///' names no file."),
        ("sqlite://ledger.db", "'sqlite://ledger.db' names no file."),
        ("sqlite:///:memory:", "a ledger in memory is memory://."),
        ("sqlite:///x.db?sync=off", "sync cannot be 'off'. Allowed: normal, full."),
        ("sqlite:///x.db?sync=full&sync=normal", "gives 'sync' twice."),
        ("sqlite:///x.db?snyc=full", "'snyc' is no parameter of sqlite://. Known: sync, access."),
    ],
)
def test_a_url_that_cannot_be_understood_says_what_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    """
    A slip in a URL must not become a fresh, empty budget.
    """
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigurationError) as caught:
        open_ledger(url, clock=SetClock())
    assert message in str(caught.value)
    assert repr(url) in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_path_is_relative_or_absolute_by_its_slashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Three slashes and four are easily confused, and are two files.
    """
    monkeypatch.chdir(tmp_path)
    relative = SQLiteLedger.open("sqlite:///state/a%20b.db", clock=SetClock())
    hold(relative, "one", 60)
    monkeypatch.chdir("/")
    absolute = SQLiteLedger.open(f"sqlite:///{tmp_path}/state/a b.db", clock=SetClock())

    assert books(absolute) == (0, 60)
    hold(relative, "two", 10)
    assert books(absolute) == (0, 70), "a program that changes its folder keeps its ledger"
    relative.close()
    absolute.close()


def test_another_package_may_bring_a_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Who runs PostgreSQL need not wait for us.
    """
    info = tmp_path / "other_ledger-1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: other-ledger\nVersion: 1.0\n")
    info.joinpath("entry_points.txt").write_text(
        "[bedrock_guard.ledgers]\nother = other_ledger:OtherLedger\nmemory = other_ledger:Missing\n"
    )
    tmp_path.joinpath("other_ledger.py").write_text(
        "from bedrock_guard.ledgers.memory import MemoryLedger\n"
        "class OtherLedger(MemoryLedger):\n"
        "    @classmethod\n"
        "    def open(cls, url, *, clock):\n"
        "        return cls(clock=clock)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    assert type(open_ledger("other://somewhere", clock=SetClock())).__name__ == "OtherLedger"
    assert type(open_ledger("memory://", clock=SetClock())) is MemoryLedger, "ours cannot be taken over"
    with pytest.raises(ConfigurationError, match=r"Known: memory://, sqlite://.*, other://"):
        open_ledger("redis://x", clock=SetClock())


def test_every_line_of_the_table_names_its_class() -> None:
    """
    A class is looked up at first use; a slip in the table would show only there.
    """
    from importlib import import_module

    for scheme, target in LEDGERS.items():
        module, _, name = target.partition(":")
        assert isinstance(getattr(import_module(module), name).blocking, bool), scheme
