"""
The URL of a table, taken apart: `dynamodb://TABLE?region=...&endpoint_url=...`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast, get_args

from bedrock_guard.errors import ConfigurationError
from bedrock_guard.ledgers.url import read_url

DEADLINE_S: Final = 2.0

Mode: TypeAlias = Literal["exact", "lease"]

_PARAMETERS: Final[dict[str, tuple[str, ...] | None]] = {
    "region": None,
    "endpoint_url": None,
    "role_arn": None,
    "mode": get_args(Mode),
    "deadline_ms": (),
}
_ARN: Final = re.compile(r"arn:aws[\w-]*:dynamodb:(?P<region>[\w-]+):\d{12}:table/(?P<name>.+)")
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_ROLE: Final = re.compile(r"arn:aws[\w-]*:iam::\d{12}:role/.+")


@dataclass(frozen=True, slots=True)
class Address:
    """
    Where a table is.

    Attributes:
        table: Its name, or its ARN when it is in another account.
        region: None for what the environment says.
        role_arn: The role to use it by; None for the program's own credentials.
        mode: Whether every call is written by itself (`exact`), or balances are leased (`lease`).
        deadline_s: How long one operation of the ledger may take.
    """

    table: str
    region: str | None = None
    endpoint_url: str | None = None
    role_arn: str | None = None
    deadline_s: float = DEADLINE_S
    mode: Mode = "exact"


def read_address(url: str) -> Address:
    """
    What *url* names.

    Raises:
        ConfigurationError: It cannot be understood; the text says what is allowed.
    """
    table, given = read_url(url, _PARAMETERS)
    arn = _ARN.fullmatch(table)
    if not _NAME.fullmatch(arn["name"] if arn else table):
        raise ConfigurationError(
            f"{url!r} names no table. Write dynamodb://my-table?region=eu-central-1, or the table's ARN "
            "(arn:aws:dynamodb:eu-central-1:111122223333:table/my-table) in place of its name."
        )
    region = given.get("region")
    if arn and region not in {None, arn["region"]}:
        raise ConfigurationError(f"{url!r}: the table is in {arn['region']}, and region says {region!r}.")
    role = given.get("role_arn")
    if role is not None and not _ROLE.fullmatch(role):
        raise ConfigurationError(
            f"{url!r}: role_arn cannot be {role!r}. Write arn:aws:iam::111122223333:role/name."
        )
    return Address(
        table=table,
        region=arn["region"] if arn else region,
        endpoint_url=given.get("endpoint_url"),
        role_arn=role,
        deadline_s=int(given["deadline_ms"]) / 1000 if "deadline_ms" in given else DEADLINE_S,
        mode=cast("Mode", given.get("mode", "exact")),
    )
