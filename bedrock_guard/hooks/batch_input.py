"""
The records of a batch, read from S3 before its job is created; only where `batch_input` is `"read"`.

The client that reads is made for that alone, with the credentials of the client that is guarded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from inspect import isawaitable
from typing import Any

import botocore.session

from bedrock_guard.batches.bounding import read_input
from bedrock_guard.batches.files import check_in_s3
from bedrock_guard.domain.call import Call
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.planning import Planner

log = logging.getLogger("bedrock_guard")


class InputReader:
    """
    Reads for one guarded client.
    """

    def __init__(self, client: Any, *, is_async: bool = False) -> None:
        self._region = client.meta.region_name
        self._credentials = getattr(getattr(client, "_request_signer", None), "_credentials", None)
        self._is_async = is_async
        self._frozen: Any = None

    async def freeze(self) -> None:
        """
        Note the credentials of an async client, before each call that may read: they can only be awaited.
        """
        frozen = None if self._credentials is None else self._credentials.get_frozen_credentials()
        self._frozen = await frozen if isawaitable(frozen) else frozen

    def read(self, call: Call, planners: Sequence[Planner]) -> Call:
        """
        *call*, bounded by its records where one of *planners* lets them be read; else as it is, and why.
        """
        planner = next((each for each in planners if each.settings.batch_input == "read"), None)
        if planner is None or call.batch is None:
            return call
        try:
            check_in_s3(call.batch.uri)  # a request must not have the disk read
            return read_input(planner, call, self._make_client)
        except ConfigurationError as error:
            log.warning("The input of a batch could not be read: %s", error)
            return call._replace(batch=call.batch._replace(problem=str(error).rstrip(".")))

    def _make_client(self) -> Any:
        session = botocore.session.Session()
        if self._frozen is not None:
            session.set_credentials(self._frozen.access_key, self._frozen.secret_key, self._frozen.token)
        elif self._credentials is not None and not self._is_async:
            session._credentials = self._credentials  # type: ignore[attr-defined]
        return session.create_client("s3", region_name=self._region)
