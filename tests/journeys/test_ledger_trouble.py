"""
A ledger that cannot be used: the call is refused with the file's name, and nothing is lost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable
from bedrock_guard.testing.bedrock_server import BedrockServer

from .conftest import HELLO, Guarded, eventually


def test_a_corrupt_file_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    """
    It may be the wrong file, and it may be somebody's only copy.
    """
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is no database, it is a letter to my mother\n" * 100)

    with pytest.raises(LedgerUnavailable, match=r"ledger\.db"):
        Guard(budget="5 USD", ledger=f"sqlite:///{path}")

    assert path.read_bytes().startswith(b"this is no database")


def test_a_folder_that_cannot_be_written_is_named() -> None:
    """
    Read-only containers are common; the error must say where it tried.
    """
    with pytest.raises(LedgerUnavailable, match="/proc/nowhere"):
        Guard(budget="5 USD", ledger="sqlite:////proc/nowhere/ledger.db")


@pytest.mark.parametrize(
    "url", ["redis://x", "sqlite://", "ledger.db", "memory://?kepp=1", "sqlite:///a.db?sync=off"]
)
def test_a_url_that_cannot_be_understood_is_quoted(url: str) -> None:
    """
    A typing mistake must not become a ledger of its own.
    """
    with pytest.raises(ConfigurationError):
        Guard(budget="5 USD", ledger=url)


def test_a_ledger_that_fails_refuses_the_call(
    make_guarded: Callable[..., Guarded], tmp_path: Path, server: BedrockServer
) -> None:
    """
    Without a ledger nobody knows whether there is room: nothing is sent.
    """
    guarded = make_guarded(ledger=f"sqlite:///{tmp_path / 'ledger.db'}")
    guarded.client.converse(**HELLO)
    guarded.guard.close()

    with pytest.raises(LedgerUnavailable, match=r"ledger\.db"):
        guarded.client.converse(**HELLO)

    assert len(server.requests) == 1


def test_a_settle_that_fails_keeps_the_reply_and_the_hold_and_is_tried_again(
    make_guarded: Callable[..., Guarded], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """
    The reply has been paid for: the caller gets it, and the books stay on the safe side.
    """
    path = tmp_path / "ledger.db"
    guarded = make_guarded(ledger=f"sqlite:///{path}")

    def take_the_ledger_away(**_: Any) -> None:
        if len(guarded.server.requests) > 1:
            return
        with sqlite3.connect(path) as thief:
            thief.execute("ALTER TABLE balance RENAME TO stolen")
        thief.close()

    guarded.client.meta.events.register("response-received.bedrock-runtime.Converse", take_the_ledger_away)

    reply = guarded.client.converse(**HELLO)
    with closing(sqlite3.connect(path)) as other:
        held = other.execute("SELECT pending FROM stolen").fetchone()[0]
    with sqlite3.connect(path) as thief:
        thief.execute("ALTER TABLE stolen RENAME TO balance")
    thief.close()

    assert reply["usage"]
    assert "is tried again" in caplog.text
    assert held > 0
    assert eventually(lambda: guarded.pending == [0])
    assert guarded.spent_nanousd == guarded.server.bill.nanousd


def test_what_a_dead_process_held_is_swept(make_guarded: Callable[..., Guarded], tmp_path: Path) -> None:
    """
    A killed worker's money must neither be forgotten nor block the key for ever.
    """
    now = [1_800_000_000.0]
    ledger = f"sqlite:///{tmp_path / 'ledger.db'}"
    dead = make_guarded(ledger=ledger, clock=lambda: now[0], hold_s=60)
    dead.guard._pipeline.upkeep.is_kept = True  # the dead renew nothing
    stream = dead.client.converse_stream(**HELLO)["stream"]
    assert dead.pending[0] > 0

    now[0] += 61
    alive = make_guarded(ledger=ledger, clock=lambda: now[0])
    report = alive.guard.sweep()

    assert report.charged <= 1, (
        "a guard that starts looks for such holds by itself, and may have been quicker"
    )
    assert report.released == 0
    assert alive.pending == [0]
    assert (alive.entry.outcome, alive.entry.basis) == ("lost", "expired")
    assert alive.entry.cost == alive.entry.estimated_cost

    # It was only slow: its late settle corrects the books, once.
    list(stream)
    assert alive.spent_nanousd == dead.server.bill.nanousd
    assert (alive.entry.outcome, alive.entry.basis) == ("answered", "reported")
