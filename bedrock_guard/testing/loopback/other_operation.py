"""
What the loopback Bedrock must know of an operation of another service.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bedrock_guard.testing.loopback.content import Content
from bedrock_guard.testing.loopback.prompt import Body

Charges = tuple[tuple[str, Mapping[str, int]], ...]
"""What the bill is charged: whose rates, and quantities by meter."""


@dataclass(frozen=True, slots=True)
class Ran:
    """
    What one call came to.
    """

    content: Content
    charges: Charges = ()


@dataclass(frozen=True, slots=True)
class OtherOperation:
    """
    One operation.

    Attributes:
        path: What its path matches; a group `id` is whom the call is addressed to.
        run: From the id, the body and how much each model writes.
        billed: Whether it costs money; others leave bill and script alone.
    """

    name: str
    method: str
    path: re.Pattern[str]
    run: Callable[[str, Body, int], Ran]
    billed: bool = True
