"""
What an operation must know: how to read its parameters, and where its replies state usage.

Pure functions over what botocore hands over; nothing here does I/O or knows an event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from bedrock_guard.domain.call import Call, ModelRef
from bedrock_guard.domain.usage import Learned, UsageReport


class Reply(NamedTuple):
    """
    An answer of AWS.

    Attributes:
        parsed: What the caller gets.
        headers: HTTP headers, names in lower case.
        content: The raw JSON body where it was read already; older botocore drops
            fields from *parsed* that it does not know (`cacheDetails` before 1.43).
    """

    parsed: Mapping[str, Any]
    headers: Mapping[str, str] = MappingProxyType({})
    content: bytes | None = None


# Every call makes one, and `Reply()` takes twice as long.
new_reply: Final[Callable[[type[Reply], tuple[Any, ...]], Reply]] = tuple.__new__


class StreamReader(Protocol):
    """
    Reads the events of one stream for the usage they state.
    """

    @property
    def report(self) -> UsageReport | None:
        """
        The usage of the whole call, once an event has stated it; None until then.
        """
        ...

    @property
    def is_last_word(self) -> bool:
        """
        True once no later event can change the report.
        """
        ...

    @property
    def learned(self) -> Learned:
        """
        What the events so far have told, for a stream that ends without its report.
        """
        ...

    def feed(self, event: Mapping[str, Any], payload: bytes) -> None:
        """
        Read one event, as parsed by botocore, and its raw payload; never raises.
        """
        ...


class Operation(Protocol):
    """
    One billed API operation.

    Attributes:
        reads_headers: Whether parameters travel as headers; those of other operations decide nothing.
    """

    reads_headers: ClassVar[bool]

    @property
    def name(self) -> str:
        """
        As AWS names it.
        """
        ...

    @property
    def stream_key(self) -> str | None:
        """
        Where the reply holds an event stream, or None.
        """
        ...

    @property
    def body_key(self) -> str | None:
        """
        Where the reply holds a `StreamingBody`, or None.
        """
        ...

    def read_call(self, params: Mapping[str, Any], *, region: str, model: ModelRef | None = None) -> Call:
        """
        What a request asks for, and how large it is; never raises on odd values,
        the bound goes to the ceiling instead. *model* is what is behind an opaque id.
        """
        ...

    def read_wire(self, *, model_id: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
        """
        The parameters that a request on the wire stands for, for `read_call`:
        handlers after ours may have changed it.
        """
        ...

    def read_usage(self, reply: Reply, call: Call) -> UsageReport | None:
        """
        The usage that a reply states without its body being read; None when it does not.
        """
        ...

    def read_body(self, body: bytes, reply: Reply, call: Call) -> UsageReport | None:
        """
        The usage that a reply states, its body included; None when it does not.
        """
        ...

    def open_stream_reader(self, call: Call, reply: Reply | None = None) -> StreamReader:
        """
        A reader for the events of one stream; *reply*, where known, may tell the serving tier.
        """
        ...
