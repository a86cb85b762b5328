"""
How large the input of a request is, asked of Bedrock's CountTokens; only where `refine` says so, and a call
would not fit otherwise.

The client that asks is made for that alone, with the credentials and the endpoint of the client that is
guarded. It asks one question at a time, once, and nobody waits longer than a second for an answer; a late
one is kept for whoever asks the same.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from typing import Any, Final

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from bedrock_guard.domain.call import Call
from bedrock_guard.estimators.count_tokens import Counts, Question, question_of

log = logging.getLogger("bedrock_guard")

_PATIENCE_S: Final = 1.0
# After an answer that did not come.
_PAUSE_S: Final = 30.0
_DENIED: Final = frozenset(
    [
        "AccessDenied",
        "AccessDeniedException",
        "UnrecognizedClientException",
        "UnknownOperationException",
    ]
)
_UNSUPPORTED: Final = frozenset(["ResourceNotFoundException"])
_MALFORMED: Final = "ValidationException"

# By endpoint and credentials, for as long as the process lives; a role's are others every hour.
_COUNTS: Final[dict[tuple[str, str], Counts]] = {}
_MOST_CREDENTIALS: Final = 64


class InputCounter:
    """
    Asks for one guarded client.
    """

    def __init__(self, client: Any) -> None:
        signer = getattr(client, "_request_signer", None)
        credentials = getattr(signer, "_credentials", None)
        # Those of an async client can only be awaited: then the default chain has to do.
        self._is_async = type(credentials).__module__.partition(".")[0] == "aiobotocore"
        self._credentials = None if self._is_async else credentials
        self._region = client.meta.region_name
        self._endpoint_url = client.meta.endpoint_url
        self._config = client.meta.config
        self._verify = getattr(
            getattr(getattr(client, "_endpoint", None), "http_session", None), "_verify", None
        )
        self._again_at = 0.0
        self._begin()

    def _begin(self) -> None:
        self._process = os.getpid()
        self._turn = threading.Lock()
        self._asker: Any = None
        self._body = b""

    def count(self, call: Call, body: object) -> int | None:
        """
        The input of *call*, whose request has this *body*; None where that is not to be had, or not in time.
        """
        question = question_of(call, body)
        if question is None:
            return None
        counts = _counts_of(self._endpoint_url, self._whose())
        known = counts.get(question)
        if known is not None or not counts.may_ask(question) or time.monotonic() < self._again_at:
            return known
        if self._process != os.getpid():  # a fork has not the thread that may hold the lock
            self._begin()
        until = time.monotonic() + _PATIENCE_S
        if not self._turn.acquire(timeout=_PATIENCE_S):
            return None
        answers: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        try:
            threading.Thread(
                target=self._ask, args=(question, counts, answers), name="bedrock_guard count", daemon=True
            ).start()
        except RuntimeError as error:  # the system has no thread left, or the interpreter is on its way out
            self._turn.release()
            log.info("CountTokens could not be asked: %r", error)
            return None
        except BaseException:
            self._turn.release()
            raise
        try:
            return answers.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:  # it is kept when it comes
            return None

    def _whose(self) -> str:
        try:
            return str(getattr(self._credentials, "access_key", ""))
        except Exception:  # noqa: BLE001 - they could not be refreshed, which the call itself will say
            return ""

    def _ask(self, question: Question, counts: Counts, answers: queue.SimpleQueue[int | None]) -> None:
        tokens = None
        try:
            tokens = counts.get(question)  # somebody may have asked the same meanwhile
            if tokens is None and counts.may_ask(question):
                tokens = self._send(question)
                counts.learn(question, tokens)
        except ClientError as error:
            self._note(error, question, counts)
        except Exception as error:  # noqa: BLE001 - whatever it is, the call is held by its bound
            self._again_at = time.monotonic() + _PAUSE_S
            log.info("CountTokens could not be asked: %r", error)
        finally:
            self._body = b""
            self._turn.release()
            answers.put(tokens)

    def _note(self, error: ClientError, question: Question, counts: Counts) -> None:
        told = error.response.get("Error", {})
        code = told.get("Code", "")
        if code in _DENIED:
            counts.is_denied = True
            log.warning("CountTokens may not be asked (%s): calls are held by their bounds alone.", code)
        elif code in _UNSUPPORTED or (code == _MALFORMED and "support" in str(told.get("Message", ""))):
            counts.rule_out(question.model_id)
            log.warning(
                "CountTokens does not know %s: its calls are held by their bounds.", question.model_id
            )
        elif code == _MALFORMED:
            counts.learn(question, None)
        else:
            self._again_at = time.monotonic() + _PAUSE_S

    def _send(self, question: Question) -> int | None:
        asker = self._client()
        if not hasattr(asker, "count_tokens"):  # an older botocore
            raise ClientError({"Error": {"Code": "UnknownOperationException"}}, "CountTokens")
        self._body = question.body
        counted = asker.count_tokens(modelId=question.model_id, input={"converse": {}})["inputTokens"]
        return counted if isinstance(counted, int) and counted >= 0 else None

    def _client(self) -> Any:
        if self._asker is None:
            session = botocore.session.Session()
            if self._credentials is not None:
                session._credentials = self._credentials  # type: ignore[attr-defined]
            short = Config(
                connect_timeout=_PATIENCE_S, read_timeout=_PATIENCE_S, retries={"total_max_attempts": 1}
            )
            self._asker = session.create_client(
                "bedrock-runtime",
                region_name=self._region,
                endpoint_url=self._endpoint_url,
                verify=self._verify,
                config=short if self._is_async or self._config is None else self._config.merge(short),
            )
            self._asker.meta.events.register("before-call.bedrock-runtime.CountTokens", self._put_in)
        return self._asker

    def _put_in(self, params: dict[str, Any], **_: Any) -> None:
        # As the guarded client wrote it: what is in it would have to be taken apart for botocore else.
        params["body"] = self._body


def _counts_of(endpoint_url: str, whose: str) -> Counts:
    known = _COUNTS.get((endpoint_url, whose))
    if known is not None:
        return known
    if len(_COUNTS) >= _MOST_CREDENTIALS:
        _COUNTS.clear()
    return _COUNTS.setdefault((endpoint_url, whose), Counts())
