"""
Run by every Python that starts under `bedrock-guard run`, before its program's first line.

It is found by PYTHONPATH. It puts the guard on each session of botocore, so that a Python which never makes
one pays nothing, and runs the `sitecustomize` that it hides. It uses only the standard library, of whichever
Python this is.
"""

from __future__ import annotations

import os
import sys

# As `typing` has it, which takes longer to import than all this.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any


class _TellOfSessions:
    """
    Finds `botocore` as the others do, and has it tell of each session.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "botocore":
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find and find(name, path, target)
            if spec is not None:
                _guard_after(spec.loader)
                return spec
        return None


def _guard_after(loader: Any) -> None:
    execute = loader.exec_module
    if getattr(execute, "__name__", None) == "exec_and_guard":
        return

    def exec_and_guard(module: Any) -> None:
        execute(module)
        # A zip's loader is one for all that is in it.
        if module.__name__ == "botocore":
            module.register_initializer(_Guards())

    loader.exec_module = exec_and_guard


class _Guards:
    """
    The guards of this process, opened by its first session: boto3 may be half-way through its import before.
    """

    def __init__(self) -> None:
        from threading import RLock  # noqa: PLC0415  (on use, as all here)

        self._lock = RLock()
        self._is_opening = False
        self._opened: Any = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget_threads)

    def __call__(self, session: Any) -> None:
        with self._lock:
            if self._is_opening:
                return  # this thread's own: a ledger's, or a sink's
            if self._opened is None:
                self._is_opening = True
                try:
                    self._opened = _open()
                finally:
                    self._is_opening = False
        for guard in self._opened:
            guard.attach_session(session)

    def _forget_threads(self) -> None:
        # Another thread may have been opening them; it is not in this process.
        self._lock = type(self._lock)()
        self._is_opening = False


def _open() -> Any:
    try:
        from bedrock_guard.running import open_guards  # noqa: PLC0415

        return open_guards()
    except Exception as error:
        # Unguarded, it could spend what it liked. No ImportError: programs take that as "not installed".
        hint = " Install bedrock-guard there." if isinstance(error, ModuleNotFoundError) else ""
        sys.stderr.write(
            f"bedrock-guard run: {sys.executable} makes a client and cannot be guarded, so it ends here: "
            f"{type(error).__name__}: {str(error).rstrip('.')}.{hint}\n"
        )
        raise SystemExit(1) from error


def _leave_mark() -> None:
    """
    Tell the command that this Python has been here: those of -I, -E and -S pass us by.
    """
    try:
        with open(os.path.join(os.environ["BEDROCK_GUARD_RUN"], "seen"), "a"):  # noqa: PTH118, PTH123 - quick
            pass
    except (KeyError, OSError):
        return


def _run_hidden() -> None:
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
    ours = sys.modules.pop(__name__)
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]  # noqa: PTH100
    try:
        __import__(__name__)
    except ModuleNotFoundError as error:
        if error.name != __name__:
            raise
    finally:
        sys.modules.setdefault(__name__, ours)
        sys.path.insert(0, here)


_leave_mark()
if "botocore" in sys.modules:
    sys.modules["botocore"].register_initializer(_Guards())
else:
    sys.meta_path.insert(0, _TellOfSessions())
_run_hidden()
