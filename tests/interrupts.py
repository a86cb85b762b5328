"""
Ctrl-C at each point where Python looks for one.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Container
from functools import cache
from types import CodeType, FrameType
from typing import Any, Final

# CPython looks for signals when a call has returned, a function begins, or a loop goes round, as part of
# that instruction. A tracer can raise before the next one only: which must have the same handlers.
_CHECKS: Final = ("CALL", "RESUME", "JUMP_BACKWARD")


class Interrupted:
    """
    Run *work*, and raise `KeyboardInterrupt` at the point *nth* of those where a signal can strike in *files*.
    """

    def __init__(
        self,
        work: Callable[[], object],
        nth: int,
        *,
        files: Container[str],
        may_strike: Callable[[FrameType], bool] = lambda _: True,
    ) -> None:
        self.has_struck = False
        self._files, self._may_strike = files, may_strike
        self._left = nth
        self._at: dict[FrameType, int] = {}
        before = sys.gettrace()  # who measures coverage goes on afterwards
        sys.settrace(self._trace)
        try:
            work()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)

    def _trace(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in self._files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            before, now = self._at.get(frame), frame.f_lasti
            self._at[frame] = now
            names, handlers = read_code(frame.f_code)
            is_look = before is not None and names[before].startswith(_CHECKS)
            is_point = is_look and handlers.get(before) == handlers.get(now)
            if is_point and self._may_strike(frame):
                self._left -= 1
                if self._left < 0 and not self.has_struck:
                    self.has_struck = True
                    raise KeyboardInterrupt
        return self._trace


@cache
def read_code(code: CodeType) -> tuple[dict[int, str], dict[int | None, int]]:
    """
    By offset: an instruction's name, and where its exceptions are handled.
    """
    names = {each.offset: each.opname for each in dis.get_instructions(code)}
    handlers: dict[int | None, int] = {}
    for each in dis._parse_exception_table(code):  # type: ignore[attr-defined]
        handlers |= {offset: each.target for offset in names if each.start <= offset < each.end}
    return names, handlers
