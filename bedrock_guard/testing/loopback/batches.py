"""
Batch jobs of the loopback Bedrock, and the S3 that their files are in.

    server.batches.put("s3://bucket/in.jsonl", records)
    job = client.create_model_invocation_job(...)["jobArn"]
    server.batches.run(job)

A job runs when it is told to, and is billed then: what its records come to, together, under `batch/` and its
model. S3 lists and gives; it does not look at signatures.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from threading import Lock
from typing import Final
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from bedrock_guard.testing.loopback import converse
from bedrock_guard.testing.loopback.bill import Bill
from bedrock_guard.testing.loopback.content import Content
from bedrock_guard.testing.loopback.dialects import dialect_of
from bedrock_guard.testing.loopback.http_wire import Head, Reply
from bedrock_guard.testing.loopback.other_operation import OtherOperation, Ran
from bedrock_guard.testing.loopback.prompt import Body, Prompt, at

S3_PATH: Final = "/_s3/"
"""Where the S3 is, below the server's URL."""

_JOBS: Final = "/model-invocation-job"
_ARN: Final = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/"
_XML: Final = {"Content-Type": "application/xml"}
_MISSING: Final = b"<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
_DENIED: Final = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@dataclass(slots=True)
class _Job:
    body: Body
    output_tokens: int
    submitted: str
    status: str = "Submitted"
    total: int = 0
    processed: int = 0


class Batches:
    """
    The jobs of one server, and its objects.

    Args:
        bill: What is charged as jobs run.
        now: Seconds since 1970, for the times that jobs tell.

    Attributes:
        denies: Whether S3 answers every request with AccessDenied.
    """

    def __init__(self, bill: Bill, now: Callable[[], float] = lambda: datetime.now(UTC).timestamp()) -> None:
        self.now = now
        self.denies = False
        self._bill = bill
        self._objects: dict[str, bytes] = {}
        self._jobs: dict[str, _Job] = {}
        self._ids = count(1)
        self._lock = Lock()
        self.operations: Final = (
            OtherOperation("CreateModelInvocationJob", "POST", re.compile(_JOBS), self._create),
            OtherOperation(
                "GetModelInvocationJob", "GET", re.compile(f"{_JOBS}/(?P<id>.+)"), self._tell, billed=False
            ),
        )

    def put(self, uri: str, content: bytes) -> None:
        """
        Keep an object at `s3://bucket/key`.
        """
        with self._lock:
            self._objects[uri.removeprefix("s3://")] = content

    def run(
        self,
        job: str,
        *,
        status: str = "Completed",
        records: int | None = None,
        writes_manifest: bool = True,
    ) -> Mapping[str, int]:
        """
        Run the first *records* of a job, None for all, and end it with *status*; what it is billed.
        """
        found = self._jobs[job.rpartition("/")[2]]
        model_id = str(found.body.get("modelId"))
        lines = self._input(found)
        read = [json.loads(line) for line in lines[:records]]
        prompts = [_read(model_id, found.body, record["modelInput"]) for record in read]
        usage = {
            "input_tokens": sum(prompt.tokens for prompt in prompts),
            "output_tokens": sum(_written(prompt, found.output_tokens) for prompt in prompts),
        }
        if prompts:
            self._bill.add(f"batch/{model_id}", usage)
        found.status, found.total, found.processed = status, len(lines), len(prompts)
        if writes_manifest:
            self._write_manifest(job, found, usage)
        return usage

    def clear(self) -> None:
        """
        Forget jobs and objects.
        """
        with self._lock:
            self._objects.clear()
            self._jobs.clear()

    def serve(self, head: Head) -> Reply:
        """
        Answer a request to S3.
        """
        if self.denies:
            return Reply(403, _XML, _DENIED)
        bucket, _, key = unquote(head.path.removeprefix(S3_PATH)).partition("/")
        if not key:
            return self._list(bucket, parse_qs(head.query).get("prefix", [""])[0])
        content = self._objects.get(f"{bucket}/{key}")
        if content is None:
            return Reply(404, _XML, b"" if head.method == "HEAD" else _MISSING)
        headers = {
            "Content-Type": "application/jsonl",
            "ETag": f'"{len(content):x}"',
            "x-amz-version-id": "v1",
        }
        return Reply(200, headers, content, withheld=len(content) if head.method == "HEAD" else 0)

    def _list(self, bucket: str, prefix: str) -> Reply:
        start = f"{bucket}/{prefix}"
        listed = "".join(
            f"<Contents><Key>{escape(name.partition('/')[2])}</Key><Size>{len(content)}</Size></Contents>"
            for name, content in sorted(self._objects.items())
            if name.startswith(start)
        )
        document = f"<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>"
        return Reply(200, _XML, document.encode())

    def _create(self, _id: str, body: Body, output_tokens: int) -> Ran:
        with self._lock:
            job = f"job{next(self._ids):09d}"
            submitted = datetime.fromtimestamp(self.now(), UTC).isoformat()
            self._jobs[job] = _Job(body, output_tokens, submitted)
        return Ran(Content(document={"jobArn": f"{_ARN}{job}"}))

    def _tell(self, id_: str, _body: Body, _output_tokens: int) -> Ran:
        job = unquote(id_).rpartition("/")[2]
        found = self._jobs.get(job)
        if found is None:
            message = "The provided job identifier is invalid."
            raise ValueError(message)
        document = {
            **{
                name: found.body.get(name)
                for name in ("modelId", "roleArn", "inputDataConfig", "outputDataConfig")
            },
            "jobArn": f"{_ARN}{job}",
            "status": found.status,
            "submitTime": found.submitted,
        }
        if found.status != "Submitted":
            document |= {"totalRecordCount": found.total, "processedRecordCount": found.processed}
        return Ran(Content(document=document))

    def _input(self, job: _Job) -> list[bytes]:
        place = str(at(job.body, ("inputDataConfig", "s3InputDataConfig", "s3Uri"))).removeprefix("s3://")
        folder = f"{place.rstrip('/')}/"
        contents = [
            content
            for name, content in sorted(self._objects.items())
            if name == place or name.startswith(folder)
        ]
        return [line for content in contents for line in content.splitlines() if line.strip()]

    def _write_manifest(self, job: str, found: _Job, usage: Mapping[str, int]) -> None:
        place = str(at(found.body, ("outputDataConfig", "s3OutputDataConfig", "s3Uri"))).rstrip("/")
        manifest = {
            "totalRecordCount": found.total,
            "processedRecordCount": found.processed,
            "successRecordCount": found.processed,
            "errorRecordCount": 0,
            "inputTokenCount": usage["input_tokens"],
            "outputTokenCount": usage["output_tokens"],
        }
        name = f"{place}/{job.rpartition('/')[2]}/manifest.json.out"
        self.put(name, json.dumps(manifest).encode())


def _read(model_id: str, job: Body, record: Body) -> Prompt:
    if job.get("modelInvocationType") == "Converse":
        return converse.read(record)
    return dialect_of(model_id, record).read(record)


def _written(prompt: Prompt, output_tokens: int) -> int:
    limit = output_tokens if prompt.output_limit is None else prompt.output_limit
    return min(output_tokens, limit) * prompt.copies if prompt.writes else 0
