"""
A hard spending limit for Amazon Bedrock, inside the boto3 client you already have.
"""

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
