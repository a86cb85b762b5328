"""
The records of a batch, read from S3 before its job is created; only where `batch_input` is `"read"`.

The client that reads is made for that alone, with the credentials of the client that is guarded.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import botocore.session

from bedrock_guard.batches.bounding import read_input
from bedrock_guard.domain.call import Call
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.planning import Planner

log = logging.getLogger("bedrock_guard")


class InputReader:
    """
    Reads for one guarded client.
    """

    def __init__(self, client: Any) -> None:
        self._region = client.meta.region_name
        # Those of an async client can only be awaited: then the default chain has to do.
        credentials = getattr(getattr(client, "_request_signer", None), "_credentials", None)
        is_async = type(credentials).__module__.partition(".")[0] == "aiobotocore"
        self._credentials = None if is_async else credentials

    def read(self, call: Call, planners: Sequence[Planner]) -> Call:
        """
        *call*, bounded by its records where one of *planners* lets them be read; else as it is, and why.
        """
        planner = next((each for each in planners if each.settings.batch_input == "read"), None)
        if planner is None or call.batch is None:
            return call
        try:
            return read_input(planner, call, self._make_client)
        except ConfigurationError as error:
            log.warning("The input of a batch could not be read: %s", error)
            return call._replace(batch=call.batch._replace(problem=str(error).rstrip(".")))

    def _make_client(self) -> Any:
        session = botocore.session.Session()
        if self._credentials is not None:
            session._credentials = self._credentials  # type: ignore[attr-defined]
        return session.create_client("s3", region_name=self._region)
