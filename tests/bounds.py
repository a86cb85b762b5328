"""
The most that a call can use, of a model of which only its limits are known.
"""

from __future__ import annotations

from bedrock_guard.domain.call import Call, ModelLimits
from bedrock_guard.domain.usage import Usage
from bedrock_guard.estimators.bound import bound, room_of


def most_of(call: Call, limits: ModelLimits) -> tuple[Usage, ...]:
    """
    The alternatives of *call*, by the *limits* of its model.
    """
    return bound(call, room_of(call.model, limits))
