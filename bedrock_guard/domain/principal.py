"""
Who makes a call: the ARN that the tag `principal` has.
"""

from __future__ import annotations

import re
from typing import Final

_ASSUMED: Final = re.compile(
    r"arn:(?P<partition>[^:]+):sts::(?P<account>[0-9]*):assumed-role/(?P<role>[^/]+)/.+"
)


def read_principal(arn: str) -> str:
    """
    What *arn*, as STS tells it, stands for: an assumed role is its role, whoever assumed it.
    """
    assumed = _ASSUMED.fullmatch(arn)
    if assumed is None:
        return arn
    return f"arn:{assumed['partition']}:iam::{assumed['account']}:role/{assumed['role']}"
