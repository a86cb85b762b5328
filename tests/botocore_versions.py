"""
What the oldest botocore that is supported cannot express, or does differently.
"""

from __future__ import annotations

import botocore
import pytest

IS_NEWEST = tuple(int(part) for part in botocore.__version__.split(".")[:2]) >= (1, 43)

needs_newer_model = pytest.mark.skipif(
    not IS_NEWEST, reason="this botocore's service model lacks what the test sends"
)
