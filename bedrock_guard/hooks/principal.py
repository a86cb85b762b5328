"""
Whose credentials a client has, asked of STS: once, and only where `principal` is `"lookup"`.

The first call of a client waits for the answer; it is kept for the client, and in the process for other
clients with the same access key. The client that asks is made for that alone, with the credentials of
the one that is guarded; no guard is on it, and it gives up after seconds. What could not be learned is
asked again after some minutes, by one call; until then, and beside it, calls carry no such tag.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import Any, Final, NoReturn

import botocore.session
from botocore.config import Config

from bedrock_guard.domain.principal import read_principal
from bedrock_guard.hooks.threads import off_loop

log = logging.getLogger("bedrock_guard")

_TIMEOUT_S: Final = 2
_AGAIN_S: Final = 300.0
_MOST_REMEMBERED: Final = 1000


class Principals:
    """
    What this process has learned: access key -> ARN, "" where STS could not tell.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._told: set[str] = set()

    def get(self, access_key: str) -> str:
        """
        The ARN, or "".
        """
        return self._known.get(access_key, "")

    def learn(self, access_key: str, principal: str) -> None:
        """
        Keep an answer.
        """
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[access_key] = principal

    def tell(self, access_key: str, why: object) -> None:
        """
        Say that there was none, once for each access key.
        """
        if access_key in self._told or len(self._told) >= _MOST_REMEMBERED:
            return
        self._told.add(access_key)
        log.warning(
            "Whose credentials a Bedrock client has could not be looked up (%s): its calls carry no tag "
            "'principal', so `untagged` decides what becomes of them. Asked again in %d minutes.",
            why,
            _AGAIN_S // 60,
        )


PRINCIPALS: Final = Principals()


class PrincipalLookup:
    """
    The answer for one guarded client.
    """

    def __init__(
        self,
        client: Any,
        *,
        is_async: bool = False,
        now: Callable[[], float] = time.monotonic,
        principals: Principals = PRINCIPALS,
    ) -> None:
        self._region = client.meta.region_name
        signer = getattr(client, "_request_signer", None)
        self._credentials = getattr(signer, "_credentials", None)
        self._is_async = is_async
        self._is_bearer = getattr(signer, "_signature_version", None) == "bearer"
        self._now = now
        self._principals = principals
        self._lock = threading.Lock()
        self._found: str | None = None
        self._again_at = 0.0

    @property
    def is_due(self) -> bool:
        """
        Whether the next call is to ask.
        """
        return self._found is None or (not self._found and self._now() >= self._again_at)

    def find(self) -> str:
        """
        The ARN; "" where it could not be learned. Asks when that is due, and the credentials need no loop.
        """
        if self.is_due and not self._is_async:
            self._ask_in_turn(self._freeze)
        return self._found or ""

    async def ask_off_loop(self) -> None:
        """
        Ask, for an async client: its credentials can only be awaited, and the loop must not wait.
        """
        try:
            frozen = self._freeze()
            freeze = partial(_same, await frozen if isawaitable(frozen) else frozen)
        except Exception as error:  # noqa: BLE001 - told with what else may go wrong
            freeze = partial(_raise, error)
        await off_loop(partial(self._ask_in_turn, freeze))

    def _ask_in_turn(self, freeze: Callable[[], Any]) -> None:
        # The first answer is waited for by all; while one asks again, others go on without.
        if not self._lock.acquire(blocking=self._found is None):
            return
        try:
            if self.is_due:
                self._ask(freeze)
        finally:
            self._lock.release()

    def _ask(self, freeze: Callable[[], Any]) -> None:
        access_key, why, found = "", "", ""
        try:
            if self._is_bearer:
                why = "it signs with a bearer token"
            elif (frozen := freeze()) is None:
                why = "it has none"
            else:
                access_key = frozen.access_key
                found = self._principals.get(access_key) or read_principal(_arn(frozen, self._region))
        except Exception as error:  # noqa: BLE001 - whatever it is, the call goes on without the tag
            why = str(error)
        if found:
            self._principals.learn(access_key, found)
        else:
            self._principals.tell(access_key, why)
        self._again_at = self._now() + _AGAIN_S
        self._found = found

    def _freeze(self) -> Any:
        return None if self._credentials is None else self._credentials.get_frozen_credentials()


def _same(frozen: Any) -> Any:
    return frozen


def _raise(error: Exception) -> NoReturn:
    raise error


def _arn(frozen: Any, region: str | None) -> str:
    session = botocore.session.Session()
    session.set_credentials(frozen.access_key, frozen.secret_key, frozen.token)
    # A private network has the regional endpoint, if any.
    session.set_config_variable("sts_regional_endpoints", "regional")
    asker = session.create_client(
        "sts",
        region_name=region,
        config=Config(connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"total_max_attempts": 2}),
    )
    try:
        arn: str = asker.get_caller_identity()["Arn"]  # type: ignore[attr-defined]
    finally:
        asker.close()
    return arn
