"""
Ledgers broken by hand, each in one place: the simulation must find every one of them, or it proves nothing.

A break is a text of a module that becomes another when the module is imported, so each needs a process of its own.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple


class Break(NamedTuple):
    """
    One mistake.

    Attributes:
        module: Where, after `bedrock_guard.ledgers.`; *before* stands there once.
        ledger: In which simulation it is to be found.
        why: What goes wrong.
    """

    module: str
    before: str
    after: str
    ledger: str
    why: str

    def install(self) -> None:
        """
        Break it, in a process that has not imported it yet.
        """
        name = f"bedrock_guard.ledgers.{self.module}"
        if name in sys.modules:
            raise AssertionError(f"{name} is imported already")
        sys.meta_path.insert(0, _Finder(name, self))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, mistake: Break) -> None:
        self._name, self._mistake = name, mistake

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert found is not None
        assert found.origin is not None
        found.loader = _Loader(fullname, found.origin, self._mistake)
        return found


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, mistake: Break) -> None:
        super().__init__(name, path)
        self._mistake = mistake

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        text = self.get_data(self.path).decode()
        if text.count(self._mistake.before) != 1:
            raise AssertionError(f"{self._mistake.before!r} is not once in {self.path}")
        return compile(text.replace(self._mistake.before, self._mistake.after), self.path, "exec")


BREAKS: dict[str, Break] = {
    "room": Break(
        "dynamodb.actions",
        'HAS_ROOM: Final = "#used <= :room"',
        'HAS_ROOM: Final = "attribute_exists(#used) OR #used <= :room"',
        "dynamodb",
        "balances that are there have no limit",
    ),
    "new-room": Break(
        "dynamodb.actions",
        '"attribute_not_exists(#used) OR #used <= :room"',
        '"attribute_not_exists(#used) OR attribute_exists(#used) OR #used <= :room"',
        "dynamodb",
        "who makes a balance that another has just made asks for no room",
    ),
    "holder": Break(
        "dynamodb.actions",
        'IS_AS_HELD: Final = "#st = :pending AND #lh = :held"',
        'IS_AS_HELD: Final = "attribute_exists(#st) AND (#st = :pending OR #lh = :held)"',
        "dynamodb",
        "a call that has ended is ended once more",
    ),
    "unread": Break(
        "dynamodb.actions",
        'IS_AS_READ: Final = "#x = :read"',
        'IS_AS_READ: Final = "attribute_exists(#x) OR #x = :read"',
        "dynamodb",
        "a sweeper that read a call before it ended charges it after",
    ),
    "held-kept": Break(
        "dynamodb.actions",
        "            used=spent - before - held,",
        "            used=spent - before,",
        "dynamodb",
        "what was held is not given back",
    ),
    "unknown": Break(
        "dynamodb.actions",
        'IS_UNKNOWN: Final = "attribute_not_exists(#pk)"',
        'IS_UNKNOWN: Final = "attribute_not_exists(#pk) OR attribute_exists(#pk)"',
        "dynamodb",
        "a reserve whose answer was lost holds twice",
    ),
    "doubt": Break(
        "dynamodb.ledger",
        "if turn.in_doubt and not self._bar(turn, call, None):",
        "if False and not self._bar(turn, call, None):",
        "dynamodb",
        "a request that was taken for lost arrives after its call was refused, and holds",
    ),
    "late-expiry": Break(
        "books",
        '    ("expired", "settled"): "corrected",',
        '    ("expired", "settled"): "replayed",',
        "dynamodb",
        "who settles after an expiry is told that it was done",
    ),
    "stale-stops": Break(
        "dynamodb.controls",
        "        return controls if is_fresh else None",
        "        return controls",
        "dynamodb",
        "programs go by stops as they were when they began",
    ),
    "sqlite-room": Break(
        "sqlite_schema",
        "AND window_start = ?4 AND spent + pending + ?5 <= ?7",
        "AND window_start = ?4 AND ?5 <= ?7",
        "sqlite",
        "balances that are there have no limit",
    ),
    "sqlite-held": Break(
        "sqlite_schema",
        "pending = pending - ?6,",
        "pending = pending - ?5,",
        "sqlite",
        "what was held above what was spent is not given back",
    ),
    "sqlite-correction": Break(
        "sqlite_books",
        "(*row[:4], new - old, 0, False)",
        "(*row[:4], new, 0, False)",
        "sqlite",
        "a call that had expired is charged twice",
    ),
    "sqlite-lowered": Break(
        "sqlite_schema",
        "spent + pending + ?5 <= ?7\n",
        "spent + pending + ?5 <= iif(?1 = 'all', max(?7, 290), ?7)\n",
        "sqlite",
        "a limit that was lowered lets calls in as before",
    ),
    "lease-fence": Break(
        "leases.store",
        'IS_OURS: Final = "#v = :read AND #st = :open"',
        'IS_OURS: Final = "(#v = :read OR attribute_exists(#v)) AND #st = :open"',
        "lease",
        "a change of a lease that comes late is done twice",
    ),
    "lease-return": Break(
        "leases.purses",
        "self.granted = granted = min(",
        "granted = min(",
        "lease",
        "what is given back is spent all the same",
    ),
    "lease-charge": Break(
        "leases.sweeping",
        '"left": left, "back": -left',
        '"left": 0, "back": -left',
        "lease",
        "what a dead process had leased is charged to nobody",
    ),
    "lease-fork": Break(
        "leases.ledger",
        "        self._desk.begin_anew()\n",
        "",
        "lease",
        "a fork goes on with its parent's slices",
    ),
    "lease-overrun": Break(
        "leases.desk",
        "granted = max(granted, spent)",
        "granted = max(granted, 0)",
        "lease",
        "what a call cost beyond what was granted is spent, and not used",
    ),
    "lease-corrected": Break(
        "dynamodb.reading",
        "is_older = at == seen",
        "is_older = at == page",
        "lease",
        "a call that is settled after it has expired has two entries",
    ),
    "lease-interrupted": Break(
        "leases.beside",
        "self._remember(id_, None)  # beforehand",
        "pass  # beforehand",
        "lease",
        "what rolls stays held for a call that was interrupted and released",
    ),
    "lease-undo": Break(
        "leases.beside",
        "            self._local.undo(entry.id)\n            return answer if",
        "            return answer if",
        "lease",
        "what rolls has no room, and the call holds its slices all the same",
    ),
}
