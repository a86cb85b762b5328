"""
What a proxy without a database asks who calls: keys are `sk-TEAM-USER`.
"""

from __future__ import annotations

from typing import Any

from litellm.proxy._types import UserAPIKeyAuth


async def who_calls(request: Any, api_key: str) -> UserAPIKeyAuth:
    _, team, user = api_key.split("-")
    return UserAPIKeyAuth(
        api_key=api_key,
        key_alias=f"{team}'s key",
        team_id=f"id-{team}",
        team_alias=team,
        user_id=user,
        metadata={"tags": ["stage:beta"]},
    )
