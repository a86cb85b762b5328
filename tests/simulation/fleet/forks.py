"""
A fork of a virtual process: its ledger as it is at that moment, locks that others hold included.
"""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Callable
from types import CellType, FunctionType
from typing import Any

from simulation.fleet.nodes import Node


def forked(ledger: Any, node: Node, child: Node, inside: list[Any]) -> Any:
    """
    A copy of the *ledger* of *node* for *child*, which runs first what was registered for a fork.

    *inside* is what belongs to a thread, of which a fork has the one that forked.
    """
    memo: dict[int, Any] = {id(node): child, **{id(each): threading.local() for each in inside}}
    copied = copy.deepcopy(ledger, memo)
    for hook in node.fork_hooks:
        moved = _moved(hook, memo)
        if moved is not None:  # else it is that of a ledger that could not be opened
            child.fork_hooks.append(moved)
    return copied


def _moved(hook: Callable[[], None], memo: dict[int, Any]) -> Callable[[], None] | None:
    """
    *hook*, which knows weakly whom it is for, for his copy.
    """
    assert isinstance(hook, FunctionType)
    (cell,) = hook.__closure__ or ()
    for_whom = memo.get(id(cell.cell_contents()))
    if for_whom is None:
        return None
    return FunctionType(
        hook.__code__, hook.__globals__, hook.__name__, None, (CellType(weakref.ref(for_whom)),)
    )
