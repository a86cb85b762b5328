"""
Which of our functions run, told without a clock.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType

PACKAGE = "bedrock_guard."


def run_by(work: Callable[[], object]) -> Counter[str]:
    """
    The functions of ours that *work* runs in this thread, as `module.name`, and how often.
    """
    ran: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith(PACKAGE):
            ran[f"{module.removeprefix(PACKAGE)}.{frame.f_code.co_name}"] += 1

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return ran
