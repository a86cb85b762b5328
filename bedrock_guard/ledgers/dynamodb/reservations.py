"""
A reservation in the table: how it is put there, and what is met at its place.
"""

from __future__ import annotations

from collections.abc import Sequence

from bedrock_guard.domain.entry import Entry
from bedrock_guard.domain.ledger import Line, Refusal
from bedrock_guard.errors import LedgerUnavailable
from bedrock_guard.ledgers import books
from bedrock_guard.ledgers.dynamodb import actions, items
from bedrock_guard.ledgers.dynamodb import lines as lines_of
from bedrock_guard.ledgers.dynamodb.items import Call, Item
from bedrock_guard.ledgers.dynamodb.lines import Met
from bedrock_guard.ledgers.dynamodb.table import Reason, Turn
from bedrock_guard.ledgers.lines import with_kinds


def open_item(turn: Turn, call: Call, entry: Entry | None) -> Item:
    """
    What is put where a reservation is kept.
    """
    item = {
        "id": {"S": call.id},
        "st": {"S": items.CODES["pending"]},
        "x": {"S": turn.id},
        "ln": items.pack_lines(call.lines),
        "lh": items.fingerprint(call.lines),
        "exp": items.number(call.expires_at_s),
        "pol": {"S": call.on_expiry},
        "seq": items.new_sequence(),
    }
    return item if entry is None else {**item, "e": items.pack_entry(entry)}


def countable(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """
    *lines*, if one transaction can hold them.

    Raises:
        LedgerUnavailable: They are too many.
    """
    if len(lines) > actions.MOST_LINES:
        raise LedgerUnavailable(
            f"A call counts towards {len(lines)} balances; on DynamoDB, where it is one transaction, "
            f"{actions.MOST_LINES} are the most.",
            is_lasting=True,
        )
    return lines


def why(lines: tuple[Line, ...], reasons: Sequence[Reason], met: Met, now: float) -> Refusal | None:
    """
    Why *lines* were not held: they do not fit; else None, and the items that they *met* tell how they may.
    """
    for line, reason in zip(lines, reasons, strict=False):
        if reason.is_failed:
            met[line.key] = reason.item
    refused = lines_of.unfit_lines(lines, met, now, enforce=True)
    return Refusal(refused) if refused else None


def still_open(id_: str, item: Item | None, known: Sequence[Line] = ()) -> Call:
    """
    The reservation of *item*, as its holder *known* the lines.

    Raises:
        ReservationClosed: It has ended, or there is none.
    """
    if item is None:
        raise books.unknown(id_)
    call = items.read_call(item)
    if call.state != "pending":
        raise books.already(id_, call.state)
    return call._replace(lines=with_kinds(call.lines, known))
