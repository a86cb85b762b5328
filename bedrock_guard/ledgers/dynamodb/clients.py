"""
The clients of one table: a boto3 session of their own, never a guarded one.

botocore neither retries here nor waits for long. A request's time-outs belong to
its client, so there are two: a patient one, and a hurried one for the time that
is left before a deadline.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from bedrock_guard.errors import ConfigurationError
from bedrock_guard.ledgers.dynamodb.address import Address

# Shares of the deadline: to connect, to be answered.
_PATIENT: Final = (0.25, 0.5)
_HURRIED: Final = (0.08, 0.12)


class Clients:
    """
    Made on use, and again after a fork: connections must not cross one.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._lock = threading.RLock()
        self._session: Any = None
        self._clients: dict[tuple[float, float], Any] = {}
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_forget_of(weakref.ref(self)))

    def within(self, seconds: float) -> Any:
        """
        A client that answers or fails within *seconds*; None when none is as quick.
        """
        for shares in (_PATIENT, _HURRIED):
            if seconds >= sum(shares) * self._address.deadline_s:
                return self._client(shares)
        return None

    @property
    def region(self) -> str:
        """
        Where requests are sent.
        """
        region: str = self._client(_PATIENT).meta.region_name
        return region

    def prepare(self) -> None:
        """
        Make what will be needed, before there is a deadline.
        """
        for shares in (_PATIENT, _HURRIED):
            self._client(shares)

    def close(self) -> None:
        """
        Give connections back.
        """
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()

    def _client(self, shares: tuple[float, float]) -> Any:
        client = self._clients.get(shares)
        if client is None:
            with self._lock:
                client = self._clients.get(shares)
                if client is None:
                    client = self._clients[shares] = self._make(shares)
        return client

    def _make(self, shares: tuple[float, float]) -> Any:
        from botocore.config import Config  # noqa: PLC0415  (imported on use)
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415

        connect, read = (share * self._address.deadline_s for share in shares)
        config = Config(
            retries={"total_max_attempts": 1, "mode": "standard"},
            connect_timeout=connect,
            read_timeout=read,
            max_pool_connections=64,
            tcp_keepalive=True,
        )
        try:
            if self._session is None:
                self._session = _open_session(self._address)
            return self._session.client("dynamodb", endpoint_url=self._address.endpoint_url, config=config)
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(
                f"DynamoDB table {self._address.table!r} cannot be reached: {error} "
                "Write dynamodb://TABLE?region=eu-central-1, and set up credentials as for any AWS client."
            ) from error

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._session = None
        self._clients = {}


def _open_session(address: Address) -> Any:
    import boto3  # noqa: PLC0415  (imported on use)

    session = boto3.Session(region_name=address.region)
    if address.role_arn is None:
        return session
    from botocore.credentials import (  # noqa: PLC0415
        AssumeRoleCredentialFetcher,
        DeferredRefreshableCredentials,
    )
    from botocore.session import get_session  # noqa: PLC0415

    fetcher = AssumeRoleCredentialFetcher(
        client_creator=partial(session.client, region_name=address.region or session.region_name),
        source_credentials=session.get_credentials(),
        role_arn=address.role_arn,
        extra_args={"RoleSessionName": "bedrock-guard"},
    )
    assumed: Any = get_session()
    # botocore has no public place for credentials that renew themselves.
    assumed._credentials = DeferredRefreshableCredentials(  # noqa: SLF001
        refresh_using=fetcher.fetch_credentials, method="assume-role"
    )
    return boto3.Session(botocore_session=assumed, region_name=address.region or session.region_name)


def _forget_of(found: weakref.ref[Clients]) -> Callable[[], None]:
    def forget() -> None:
        clients = found()
        if clients is not None:
            clients._forget()  # noqa: SLF001

    return forget
