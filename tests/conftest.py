"""
Every test runs as on a machine that has no AWS account and no settings of its own.
"""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

# How quick a machine is proves nothing.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# Whoever starts us behind its back, as `nohup` and `&` do, has us ignore what tests send, and all that they start.
for name, usual in {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}.items():
    if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
        signal.signal(getattr(signal, name), usual)


@pytest.fixture(autouse=True)
def _no_aws_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    for name in (
        "AWS_PROFILE",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_RETRY_MODE",
        "AWS_MAX_ATTEMPTS",
        "BEDROCK_GUARD_BUDGET",
        "BEDROCK_GUARD_LEDGER",
        "BEDROCK_GUARD_CONFIG",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BEDROCK_GUARD_PRICES", "/nonexistent")
