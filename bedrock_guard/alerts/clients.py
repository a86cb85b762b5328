"""
AWS clients of sinks: of a boto3 session of their own, which no guard knows.
"""

from __future__ import annotations

from typing import Any, Final

from bedrock_guard.errors import ConfigurationError

# Within the time that a sink may take, twice.
_CONNECT_S: Final = 2
_READ_S: Final = 2.5


def make_client(service: str, *, region: str | None, endpoint_url: str | None) -> Any:
    """
    A client that is answered, or fails, within seconds; deliveries are tried again elsewhere.

    Raises:
        ConfigurationError: There is no region, or one that cannot be.
    """
    import boto3  # noqa: PLC0415  (imported on use)
    from botocore.config import Config  # noqa: PLC0415
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=_READ_S,
        retries={"total_max_attempts": 2, "mode": "standard"},
    )
    try:
        return boto3.Session(region_name=region).client(service, endpoint_url=endpoint_url, config=config)
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(
            f"Alerts cannot be sent to {service}: {error} Give the sink its region."
        ) from error


def find_region(sink: str, region: str | None) -> str:
    """
    *region*, or that of the environment or the AWS profile.

    Raises:
        ConfigurationError: There is none: no alert would ever be sent.
    """
    import boto3  # noqa: PLC0415  (imported on use)

    found: str | None = region or boto3.Session().region_name
    if found is None:
        raise ConfigurationError(f"Sink {sink!r}: no region is set; give the sink its region.")
    return found


def check_texts(sink: str, **options: str | None) -> None:
    """
    Refuse an option that is no text.

    Raises:
        ConfigurationError: It names the option.
    """
    for name, value in options.items():
        if value is not None and (not isinstance(value, str) or not value):
            raise ConfigurationError(f"Sink {sink!r}: {name} is {value!r}; it is a string.")
