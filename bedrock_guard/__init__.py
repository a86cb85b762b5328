"""
A hard spending limit for Amazon Bedrock, inside the boto3 client you already have.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from bedrock_guard.api import guard, guard_process, guarded_client, guarded_session, unguard
    from bedrock_guard.context import bind, scope
    from bedrock_guard.domain.budget import Budget
    from bedrock_guard.errors import BudgetExceeded, GuardError
    from bedrock_guard.wiring import Guard

__all__ = [
    "Budget",
    "BudgetExceeded",
    "Guard",
    "GuardError",
    "bind",
    "guard",
    "guard_process",
    "guarded_client",
    "guarded_session",
    "scope",
    "unguard",
]

# Imported on use: the command line answers before botocore could be imported.
_HOMES = {
    "api": ("guard", "guard_process", "guarded_client", "guarded_session", "unguard"),
    "context": ("bind", "scope"),
    "domain.budget": ("Budget",),
    "errors": ("BudgetExceeded", "GuardError"),
    "wiring": ("Guard",),
}


def __getattr__(name: str) -> typing.Any:
    for home, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
