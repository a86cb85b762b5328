"""
Conditions and signs of the ledgers, each made wrong in one place.

Each is caught by a test of its area, or the page on what is guaranteed says why it cannot be. `python
tests/mutants` puts in one after the other.
"""

from __future__ import annotations

from typing import Final, NamedTuple

CONTRACT: Final = "tests/contract/test_ledgers.py"
MODEL: Final = "tests/properties/test_ledger_model.py"
SHORT_WAYS: Final = "tests/properties/test_short_ways.py"


class Area(NamedTuple):
    """
    Which tests are to catch a mutant.

    Attributes:
        tests: Files, in the order in which they are run.
        only: Which of their tests, as `pytest -k` takes it; all for "".
    """

    tests: tuple[str, ...]
    only: str = ""


class Mutant(NamedTuple):
    """
    One place, made wrong.

    Attributes:
        name: What goes wrong.
        path: The module, within `bedrock_guard`.
        was: Text that is there once.
        becomes: What stands there instead.
        argued: Why no test can tell it; "" where one has to.
    """

    name: str
    path: str
    was: str
    becomes: str
    argued: str = ""


AREAS: Final = {
    "memory": Area((CONTRACT, MODEL, "tests/unit/test_memory_ledger.py", SHORT_WAYS), "memory"),
    "sqlite": Area((CONTRACT, MODEL, "tests/unit/test_sqlite_ledger.py"), "sqlite"),
    "dynamodb": Area(
        (CONTRACT, "tests/unit/test_dynamodb_ledger.py", "tests/unit/test_dynamodb_recovery.py"), "dynamodb"
    ),
    "controls": Area(("tests/unit/test_dynamodb_controls.py", CONTRACT), "dynamodb"),
    "claims": Area(("tests/unit/test_dynamodb_claims.py", CONTRACT), "dynamodb"),
    "all": Area((CONTRACT, MODEL), "memory or sqlite"),
    "leases": Area(
        (
            "tests/unit/test_lease_slices.py",
            "tests/unit/test_lease_doubts.py",
            "tests/unit/test_leases.py",
            "tests/unit/test_lease_interrupts.py",
            "tests/unit/test_lease_short_way.py",
            SHORT_WAYS,
            CONTRACT,
            "tests/simulation/test_fleet.py",
        ),
        "not dynamodb or leased",
    ),
}

_BOOKS: Final = "ledgers/books.py"
_LINES: Final = "ledgers/lines.py"
_SUMS: Final = "ledgers/memory_sums.py"
_MEMORY: Final = "ledgers/memory.py"
_SCHEMA: Final = "ledgers/sqlite_schema.py"
_SQL_BOOKS: Final = "ledgers/sqlite_books.py"
_SQL_LINES: Final = "ledgers/sqlite_lines.py"
_SQLITE: Final = "ledgers/sqlite.py"
_ACTIONS: Final = "ledgers/dynamodb/actions.py"
_D_LINES: Final = "ledgers/dynamodb/lines.py"
_D_LEDGER: Final = "ledgers/dynamodb/ledger.py"
_SWEEPING: Final = "ledgers/dynamodb/sweeping.py"
_CONTROLS: Final = "ledgers/dynamodb/controls.py"
_CLAIMS: Final = "ledgers/dynamodb/claims.py"
_STORE: Final = "ledgers/leases/store.py"
_LOCAL: Final = "ledgers/leases/local.py"
_IN_HAND: Final = "ledgers/leases/in_hand.py"
_PURSES: Final = "ledgers/leases/purses.py"
_DESK: Final = "ledgers/leases/desk.py"
_SLICES: Final = "ledgers/leases/slices.py"
_CHARGING: Final = "ledgers/leases/sweeping.py"
_BESIDE: Final = "ledgers/leases/beside.py"
_JOURNAL: Final = "ledgers/leases/journal.py"
_KEEPER: Final = "ledgers/leases/keeper.py"
_READING: Final = "ledgers/dynamodb/reading.py"

MUTANTS: Final[dict[str, tuple[Mutant, ...]]] = {
    "all": (
        Mutant(
            "a negative amount is taken", _BOOKS, "if not 0 <= line.amount <=", "if not -1 <= line.amount <="
        ),
        Mutant(
            "of two lines of a key one counts",
            _BOOKS,
            "amount=line.amount + known.amount",
            "amount=line.amount",
        ),
        Mutant("an overrun is none", _BOOKS, "if amount > line.amount:", "if amount > line.amount + 1:"),
        Mutant(
            "a settle may follow a release",
            _BOOKS,
            '("released", "released"): "replayed",',
            '("released", "released"): "replayed", ("released", "settled"): "replayed",',
        ),
        Mutant(
            "another amount is a replay",
            _BOOKS,
            '(how == "replayed" and not is_same)',
            '(how == "replayed" and is_same is None)',
        ),
        Mutant(
            "a late settle corrects nothing",
            _BOOKS,
            '("expired", "settled"): "corrected",',
            '("expired", "settled"): "replayed",',
        ),
        Mutant(
            "who dies is charged nothing",
            _BOOKS,
            'line.amount if on_expiry == "charge" else 0',
            'line.amount if on_expiry == "release" else 0',
        ),
        Mutant(
            "what was not reserved is not booked",
            _BOOKS,
            "booked += [line.amount for line in extra]",
            "booked += [0 for line in extra]",
        ),
        Mutant(
            "a sub-window leaves too soon",
            _LINES,
            "return line.key.window_start - line.span_s\n",
            "return line.key.window_start - line.span_s + sub_window_s(line)\n",
        ),
        Mutant(
            "what rolls has room that is not there",
            _LINES,
            "line.limit is None or spent + pending + line.amount <= line.limit",
            "line.limit is None or spent + line.amount <= line.limit",
        ),
        Mutant(
            "a bucket was never emptied",
            _LINES,
            "after_ns = max(full_at_ns, now_ns) + take_ns(line, line.amount)",
            "after_ns = now_ns + take_ns(line, line.amount)",
        ),
        Mutant(
            "a bucket fills while it is full",
            _LINES,
            "after_ns = max(full_at_ns, now_ns) + take_ns(line, line.amount)",
            "after_ns = full_at_ns + take_ns(line, line.amount)",
        ),
        Mutant(
            "time and giving back both refill",
            _LINES,
            "-max(0, -change_ns - max(0, age_ns))",
            "-max(0, -change_ns)",
        ),
        Mutant(
            "what is given back empties",
            _LINES,
            "take_ns(line, spent) - take_ns(line, held)",
            "take_ns(line, held) - take_ns(line, spent)",
        ),
    ),
    "memory": (
        Mutant(
            "what is pending has no part in the cap",
            _SUMS,
            'if line.kind != "window" or spent + pending >',
            'if line.kind != "window" or spent + line.amount >',
        ),
        Mutant(
            "a balance has room for one more",
            _SUMS,
            "return RefusedLine(line, spent, pending, calls) if used > line.limit else None\n\n\ndef taken",
            "return RefusedLine(line, spent, pending, calls) if used > line.limit + 1 else None\n\n\ndef taken",
        ),
        Mutant("a settled hold stays", _SUMS, "pending -= line.amount\n            calls -= 1", "calls -= 1"),
        Mutant(
            "a correction is charged twice",
            _SUMS,
            "sums[key] = spent + new - old, pending, calls",
            "sums[key] = spent + new, pending, calls",
        ),
        Mutant(
            "an ended call counts as pending",
            _SUMS,
            "pending -= line.amount\n            calls -= 1",
            "pending -= line.amount",
        ),
        Mutant(
            "a usual settle leaves its hold", _SUMS, "pending - held_before, calls - 1", "pending, calls - 1"
        ),
        Mutant(
            "a usual settle leaves its call pending",
            _SUMS,
            "pending - held_before, calls - 1",
            "pending - held_before, calls",
        ),
        Mutant("a usual overrun is none", _SUMS, "if amount > held_before:", "if amount > held_before + 1:"),
        Mutant(
            "a settle below its hold gives a rate nothing back",
            _SUMS,
            'if kind == "rate" or not 0 <= amount',
            "if not 0 <= amount",
        ),
        Mutant(
            "what a usual settle was not told is ignored",
            _SUMS,
            "if len(lines) != len(amounts):",
            "if len(lines) > len(amounts):",
        ),
        Mutant(
            "the same id is held twice",
            _MEMORY,
            "            if known is not None:\n                return _reservation(id_, known)\n",
            "",
        ),
        Mutant(
            "other controls are no matter",
            _MEMORY,
            "controls is not None and controls != self._controls.version",
            "controls is not None and controls < 0",
        ),
        Mutant(
            "a hold is swept in its last moment and later",
            _MEMORY,
            "if call.expires_at_s <= now\n",
            "if call.expires_at_s - 1 <= now\n",
        ),
        Mutant(
            "a hold can be shortened",
            _MEMORY,
            "expires_at_s=max(call.expires_at_s, expires_at_s)",
            "expires_at_s=expires_at_s",
        ),
    ),
    "sqlite": (
        Mutant(
            "what is pending has no part in the cap",
            _SCHEMA,
            "AND spent + pending + ?5 <= ?7",
            "AND spent + ?5 <= ?7",
        ),
        Mutant(
            "what is spent has no part in the cap",
            _SCHEMA,
            "AND spent + pending + ?5 <= ?7",
            "AND pending + ?5 <= ?7",
        ),
        Mutant(
            "the cap is one less",
            _SCHEMA,
            "AND spent + pending + ?5 <= ?7",
            "AND spent + pending + ?5 < ?7",
            argued="what this refuses is asked again line by line, and let in there: it is slower, and as right",
        ),
        Mutant(
            "the first call of a window has no cap",
            _SCHEMA,
            "SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE ?5 <= ?7\n",
            "SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE ?5 <= ?7 OR 1\n",
        ),
        Mutant(
            "a settled hold stays",
            _SCHEMA,
            "pending = pending - ?6, pending_calls = pending_calls - ?7",
            "pending_calls = pending_calls - ?7",
        ),
        Mutant(
            "an ended call counts as pending",
            _SCHEMA,
            "pending = pending - ?6, pending_calls = pending_calls - ?7",
            "pending = pending - ?6",
        ),
        Mutant(
            "what is settled is not spent",
            _SCHEMA,
            "SET spent = spent + ?5, pending = pending - ?6",
            "SET spent = spent, pending = pending - ?6",
        ),
        Mutant(
            "what was ended can be opened again",
            _SCHEMA,
            'OPEN: Final = """\nINSERT INTO reservation (id, at, expires_at, on_expiry, lines, entry)\nSELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1 FROM entry WHERE id = ?1)',
            'OPEN: Final = """\nINSERT INTO reservation (id, at, expires_at, on_expiry, lines, entry)\nSELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE 1',
        ),
        Mutant(
            "other controls are no matter",
            _SCHEMA,
            "AND EXISTS (SELECT 1 FROM controls WHERE version = ?7)",
            "AND EXISTS (SELECT 1 FROM controls WHERE version >= ?7)",
        ),
        Mutant(
            "what does not fit is half held",
            _SQL_BOOKS,
            '            db.execute("ROLLBACK")\n            return Refusal',
            "            return Refusal",
        ),
        Mutant(
            "a correction is charged twice",
            _SQL_BOOKS,
            "(*row[:4], new - old, 0, False)",
            "(*row[:4], new, 0, False)",
        ),
        Mutant(
            "an expired hold is given back twice",
            _SQL_BOOKS,
            "(*row[:4], new - old, 0, False)",
            "(*row[:4], new - old, row[5], False)",
        ),
        Mutant(
            "an extended call ends as it began",
            _SQL_BOOKS,
            "        if call.lines_text == self.held_text:\n            return self\n",
            "        return self\n",
        ),
        Mutant("the second hold of a call is another call", _SQL_BOOKS, "line.key not in known,", "True,"),
        Mutant(
            "a first hold that does not fit is not undone",
            _SQLITE,
            '                db.execute("ROLLBACK")\n                db.execute("BEGIN IMMEDIATE")\n                db.execute(opening, values)\n',
            "",
        ),
        Mutant(
            "a hold can be shortened",
            _SQLITE,
            "expires_at_s = max(expires_at_s, now + hold_s)",
            "expires_at_s = now + hold_s",
        ),
        Mutant(
            "a claim that was confirmed is taken again",
            _SCHEMA,
            "WHERE is_confirmed = 0 AND claimed_at <= ?5",
            "WHERE claimed_at <= ?5",
        ),
        Mutant(
            "two tell the same alert",
            _SCHEMA,
            "WHERE is_confirmed = 0 AND claimed_at <= ?5",
            "WHERE is_confirmed = 0",
        ),
        Mutant(
            "a rate is read before it is taken",
            _SQL_LINES,
            "        return None if free_at_s is None else lines.refused_rate(line, after_ns, free_at_s, now)",
            "        return None",
        ),
    ),
    "dynamodb": (
        Mutant(
            "room is not asked",
            _ACTIONS,
            'HAS_ROOM: Final = "#used <= :room"',
            'HAS_ROOM: Final = "attribute_exists(#used) OR #used <= :room"',
        ),
        Mutant(
            "the cap is one less",
            _ACTIONS,
            'HAS_ROOM: Final = "#used <= :room"',
            'HAS_ROOM: Final = "#used < :room"',
        ),
        Mutant(
            "of two first calls both are let in",
            _ACTIONS,
            'IS_NEW_OR_HAS_ROOM: Final = "attribute_not_exists(#used) OR #used <= :room"',
            'IS_NEW_OR_HAS_ROOM: Final = "attribute_not_exists(#used) OR attribute_exists(#used)"',
        ),
        Mutant(
            "the amount itself needs no room",
            _ACTIONS,
            "changes.append(Change(key, used, spent, calls, limit - line.amount, is_new, special))",
            "changes.append(Change(key, used, spent, calls, limit, is_new, special))",
        ),
        Mutant(
            "a balance that was deleted comes back below zero",
            _ACTIONS,
            'IS_THERE: Final = "attribute_exists(#used)"',
            'IS_THERE: Final = "attribute_exists(#used) OR attribute_not_exists(#used)"',
        ),
        Mutant(
            "a call that has ended ends again",
            _ACTIONS,
            'IS_AS_HELD: Final = "#st = :pending AND #lh = :held"',
            'IS_AS_HELD: Final = "(#st = :pending OR attribute_exists(#st)) AND #lh = :held"',
        ),
        Mutant(
            "an extended call ends as it began",
            _ACTIONS,
            'IS_AS_HELD: Final = "#st = :pending AND #lh = :held"',
            'IS_AS_HELD: Final = "#st = :pending AND (#lh = :held OR attribute_exists(#lh))"',
        ),
        Mutant(
            "two correct an expired call",
            _ACTIONS,
            'IS_AS_READ: Final = "#x = :read"',
            'IS_AS_READ: Final = "#x = :read OR attribute_exists(#x)"',
        ),
        Mutant(
            "the same id is held twice",
            _ACTIONS,
            'IS_UNKNOWN: Final = "attribute_not_exists(#pk)"',
            'IS_UNKNOWN: Final = "attribute_not_exists(#pk) OR attribute_exists(#pk)"',
        ),
        Mutant("a settled hold stays", _ACTIONS, "used=spent - before - held,", "used=spent - before,"),
        Mutant("a correction is charged twice", _ACTIONS, "spent=spent - before,", "spent=spent,"),
        Mutant(
            "an ended call counts as pending",
            _ACTIONS,
            "calls=-1 if is_held and not is_rolling(line.key) else 0",
            "calls=0",
        ),
        Mutant(
            "a record counts twice",
            _ACTIONS,
            'condition="attribute_not_exists(#x) OR #x <> :x"',
            'condition="attribute_not_exists(#x) OR attribute_exists(#x)"',
        ),
        Mutant(
            "the newest sub-window has no cap",
            _D_LINES,
            "    if item is None or line.enforce:\n        condition",
            "    if line.amount < 0:\n        condition",
        ),
        Mutant(
            "two take off what left",
            _D_LINES,
            'Special("#v = :read", values, ("#head = :head",), adds, removes)',
            'Special("#v >= :read", values, ("#head = :head",), adds, removes)',
        ),
        Mutant(
            "a request of long ago holds",
            _D_LINES,
            '"#head >= :head AND #head <= :last"\n        values |= {"head": start, "last": last}',
            '"#head >= :head"\n        values |= {"head": start}',
        ),
        Mutant(
            "a clock far behind holds twice",
            _D_LINES,
            'condition = "#v = :read"',
            'condition = "#v >= :read"',
        ),
        Mutant(
            "what left stays",
            _D_LINES,
            "return line.amount - used, -spent, Special",
            "return line.amount, -spent, Special",
        ),
        Mutant(
            "a bucket is emptied by the last who read it",
            _D_LINES,
            'return Special("#full = :read", {"after": after_ns, "read": full_at_ns}',
            'return Special("#full >= :read", {"after": after_ns, "read": 0}',
        ),
        Mutant(
            "a hold can be shortened",
            _D_LEDGER,
            'condition="#st = :pending AND #exp < :exp"',
            'condition="#st = :pending AND (#exp < :exp OR attribute_exists(#exp))"',
        ),
        Mutant(
            "an open call is swept before its time",
            _SWEEPING,
            "if call.expires_at_s <= now)",
            "if call.expires_at_s <= now + 30)",
        ),
        Mutant(
            "what was opened late is missed",
            _SWEEPING,
            "begin = items.sort_key(low_ms - BACK_MS)",
            "begin = items.sort_key(low_ms)",
        ),
    ),
    "controls": (
        Mutant(
            "a stop is lost to another one",
            _CONTROLS,
            'IS_AS_READ: Final = "attribute_not_exists(#v) OR #v = :read"',
            'IS_AS_READ: Final = "attribute_not_exists(#v) OR #v <= :read OR #v > :read"',
        ),
        Mutant(
            "a stop is read once",
            _CONTROLS,
            "return controls if is_fresh else None",
            "return controls",
        ),
        Mutant(
            "other controls are no matter",
            _D_LEDGER,
            "if controls is not None and controls != self._controls.read(turn).version:",
            "if controls is not None and controls < 0:",
        ),
        Mutant(
            "a clock that is set back keeps a copy fresh",
            _CONTROLS,
            "is_fresh = 0 <= now - began_at_s < most_s",
            "is_fresh = now - began_at_s < most_s",
        ),
    ),
    "claims": (
        Mutant(
            "two tell the same alert",
            _CLAIMS,
            "(attribute_not_exists(#told) AND (#at <= :old OR #x = :x))",
            "(attribute_not_exists(#told) AND (#at <= :old OR attribute_exists(#x)))",
        ),
        Mutant(
            "a claim that was confirmed is taken again",
            _CLAIMS,
            "(attribute_not_exists(#told) AND (#at <= :old OR #x = :x))",
            "(#at <= :old OR #x = :x)",
        ),
        Mutant(
            "a confirmed claim stays on the list",
            _CLAIMS,
            'update=f"REMOVE #{_name(claim)}"',
            'update=f"REMOVE #{_name(claim)}_"',
        ),
    ),
    "leases": (
        Mutant(
            "a lease is made twice",
            _STORE,
            'IS_FREE: Final = "attribute_not_exists(#v)"',
            'IS_FREE: Final = "attribute_not_exists(#v) OR attribute_exists(#v)"',
        ),
        Mutant(
            "a late request changes a lease",
            _STORE,
            'IS_OURS: Final = "#v = :read AND #st = :open"',
            'IS_OURS: Final = "(#v = :read OR attribute_exists(#v)) AND #st = :open"',
        ),
        Mutant(
            "who was charged spends on",
            _STORE,
            'IS_OURS: Final = "#v = :read AND #st = :open"',
            'IS_OURS: Final = "#v = :read AND (#st = :open OR attribute_exists(#st))"',
            argued="a charge changes the version as well",
        ),
        Mutant(
            "what was charged is corrected twice",
            _STORE,
            'IS_CHARGED: Final = "#v = :read AND #st = :expired"',
            'IS_CHARGED: Final = "(#v = :read OR attribute_exists(#v)) AND (#st = :expired OR attribute_exists(#st))"',
            argued="the correction makes a lease of a new name, which is made once",
        ),
        Mutant(
            "the dead lease on",
            _STORE,
            'IS_ALIVE: Final = "attribute_not_exists(#st) OR #st = :open"',
            'IS_ALIVE: Final = "attribute_not_exists(#st) OR #st = :open OR attribute_exists(#st)"',
        ),
        Mutant(
            "what is given back stays used",
            _STORE,
            '"used": granted - before.granted,',
            '"used": max(0, granted - before.granted),',
        ),
        Mutant(
            "what was reported is reported again",
            _STORE,
            '"spent": reported - before.reported,',
            '"spent": reported,',
        ),
        Mutant(
            "what is lent is never less",
            _STORE,
            '"lent": granted - reported - before.outstanding,',
            '"lent": granted - reported,',
        ),
        Mutant(
            "a slice has room for one more",
            _LOCAL,
            "if used > purse.granted or",
            "if used > purse.granted + 1 or",
        ),
        Mutant(
            "a limit that was lowered is none",
            _LOCAL,
            "elif limit is not None and used > limit:",
            "elif limit is not None and used > 2 * limit:",
        ),
        Mutant(
            "a usual call has room for one more",
            _LOCAL,
            "or used > purse.granted:",
            "or used > purse.granted + 1:",
        ),
        Mutant(
            "a lowered limit is none for a usual call",
            _LOCAL,
            "if amount < 0 or used > limit or",
            "if amount < 0 or",
        ),
        Mutant(
            "a usual call holds less than nothing", _LOCAL, "if amount < 0 or used > limit", "if used > limit"
        ),
        Mutant(
            "a usual call holds in another balance",
            _LOCAL,
            "if (key is not purse.key and key != purse.key) or limit is None",
            "if limit is None",
        ),
        Mutant(
            "a usual call is not told what it is over",
            _LOCAL,
            "or limit is None or not enforce:",
            "or limit is None:",
        ),
        Mutant("the same id is held twice, as usual", _LOCAL, "if is_new and len(lines)", "if len(lines)"),
        Mutant(
            "a usual call holds the first of its lines",
            _LOCAL,
            " == len(found) and self._noted is None",
            " >= len(found) and self._noted is None",
        ),
        Mutant(
            "a usual call holds more than its lines",
            _LOCAL,
            " == len(found) and self._noted is None",
            " <= len(found) and self._noted is None",
        ),
        Mutant(
            "a usual call that has settled stays held",
            _LOCAL,
            "sums.append((spent + amount, pending - held))",
            "sums.append((spent + amount, pending))",
        ),
        Mutant("a usual overrun is none", _LOCAL, "if amount > held:", "if amount > held + 1:"),
        Mutant(
            "a usual end has no entry", _LOCAL, "self.notes.append((sequence, entry.at_s, entry))", "pass"
        ),
        Mutant(
            "what a usual end leaves out is held for ever",
            _LOCAL,
            "amounts.get(line.key, -1), line.amount",
            "amounts.get(line.key, 0), 0",
        ),
        Mutant(
            "a slice that was forgotten is held from", _IN_HAND, "self._usual = ()  # first", "pass  # first"
        ),
        Mutant(
            "a slice that was forgotten has spent nothing",
            _PURSES,
            "self.sums = max(spent, reported), pending",
            "self.sums = spent, pending",
        ),
        Mutant(
            "what a call is extended by of another balance is held for ever",
            _LOCAL,
            "purses=tuple(dict.fromkeys((*call.purses, *change[0]))),",
            "purses=call.purses,",
        ),
        Mutant(
            "what is given back is spent on",
            _PURSES,
            "self.granted = granted = min(",
            "granted = min(",
        ),
        Mutant(
            "what is pending is given back",
            _PURSES,
            "min(self.spendable, spent + pending + keep)",
            "min(self.spendable, spent + keep)",
        ),
        Mutant(
            "a slice that is not all spent is forgotten",
            _IN_HAND,
            "if purse.sums != (purse.spendable, 0):",
            "if purse.sums[1]:",
        ),
        Mutant(
            "a slice with calls is forgotten",
            _IN_HAND,
            "if any(purse in call.purses for call in self._open.values()):",
            "if False:",
        ),
        Mutant(
            "two lines of a key are held as one", _LOCAL, "or amount < 0 or purse in found", "or amount < 0"
        ),
        Mutant("less than nothing is held", _LOCAL, "or amount < 0 or purse in found", "or purse in found"),
        Mutant(
            "a settled hold stays",
            _PURSES,
            "sums.append((spent + amount, pending - line.amount))",
            "sums.append((spent + amount, pending))",
        ),
        Mutant(
            "a correction is charged twice",
            _LOCAL,
            "sums.append((spent + new - old, pending))",
            "sums.append((spent + new, pending))",
        ),
        Mutant(
            "what is charged and was never leased is nobody's",
            _LOCAL,
            "if purse.granted == NEVER_LEASED:\n                self.strangers",
            "if purse.granted < NEVER_LEASED:\n                self.strangers",
        ),
        Mutant(
            "a grant is asked for above the limit",
            _DESK,
            "room = most - max(0, granted - lease.granted)",
            "room = most",
        ),
        Mutant("less is asked for than is missing", _SLICES, "return max(missing, wanted)", "return wanted"),
        Mutant(
            "a process takes all that is free",
            _SLICES,
            "wanted = min(wanted, max(0, free) // (SHARE * max(1, holders)))",
            "wanted = min(wanted, max(0, free))",
        ),
        Mutant(
            "the dead are charged nothing",
            _CHARGING,
            'values = {"zero": 0, "left": left, "back": -left, "one": -1}',
            'values = {"zero": 0, "left": 0, "back": -left, "one": -1}',
        ),
        Mutant(
            "a lease is charged twice",
            _CHARGING,
            'IS_AS_READ: Final = "#v = :read AND #st = :open"',
            'IS_AS_READ: Final = "(#v = :read OR attribute_exists(#v)) AND #st = :open"',
        ),
        Mutant(
            "who has just spoken is dead",
            _CHARGING,
            'IS_SILENT: Final = "#st <> :over AND #ex = :ex"',
            'IS_SILENT: Final = "#st <> :over AND (#ex = :ex OR attribute_exists(#ex))"',
            argued="dead is an opinion: a process that lives meets the charge, and takes back what it has not spent",
        ),
        Mutant(
            "what rolls stays held in the table",
            _BESIDE,
            "there = self._end(held, end, special, entry)",
            'there = books.SETTLED[books.ENDS["pending", end], False]',
        ),
        Mutant(
            "an entry is dropped before its put",
            _JOURNAL,
            "self._put(turn, self._segments[0])\n            del self._segments[0]",
            "self._put(turn, self._segments.pop(0))",
        ),
        Mutant(
            "what is counted is dropped before it is added",
            _JOURNAL,
            "self._add(turn, *self._adding[0])\n            del self._adding[0]",
            "self._add(turn, *self._adding.pop(0))",
        ),
        Mutant(
            "nobody asks whether a process is alive",
            _STORE,
            "condition=IS_ALIVE,",
            'condition="",',
        ),
        Mutant(
            "an overrun waits for the next report",
            _KEEPER,
            "                or spent > granted\n",
            "",
        ),
        Mutant(
            "an overrun is not used",
            _DESK,
            "granted = max(granted, spent)",
            "granted = max(granted, 0)",
        ),
        Mutant(
            "an overrun of who was taken for dead is not used",
            _STORE,
            '"used": move.granted - expired.granted,',
            '"used": 0,',
        ),
        Mutant(
            "a corrected entry is there twice",
            _LOCAL,
            "self.notes.append((call.sequence, at_s, entry))",
            'self.notes.append((call.sequence + (call.state == "expired"), at_s, entry))',
        ),
        Mutant(
            "entries of one call are all read",
            _READING,
            "is_older = at == seen",
            "is_older = at == page",
        ),
        Mutant(
            "the older of two segments is right",
            _READING,
            "row.name, -row.revision, -count, row",
            "row.name, row.revision, -count, row",
        ),
        Mutant(
            "the first of two notes in one segment is right",
            _READING,
            "row.name, -row.revision, -count, row",
            "row.name, -row.revision, count, row",
        ),
        Mutant(
            "what an interrupt left is not written again",
            _IN_HAND,
            "        if self._noted is not None:\n            self._write(*self._noted)",
            "        pass",
        ),
        Mutant(
            "a hold in the table is forgotten by who was interrupted",
            _BESIDE,
            "self._remember(id_, None)  # beforehand",
            "pass  # beforehand",
        ),
    ),
}
