"""
What a family must know: how its models are asked, and where they say what was used.

Pure functions over parsed JSON. The names of fields are data, in the tables of
`dialect.Dialect`; a family that needs more may bring its own object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from bedrock_guard.domain.call import RequestSize
from bedrock_guard.domain.usage import Usage
from bedrock_guard.families.counts import Counts
from bedrock_guard.families.image_sizes import ImageRule
from bedrock_guard.families.limits import Path


class Family(Protocol):
    """
    One maker's dialect of InvokeModel, and what holds for its models in any operation.
    """

    @property
    def name(self) -> str:
        """
        As calls, tags and entries carry it: `"anthropic"`.
        """
        ...

    @property
    def image_tokens(self) -> int:
        """
        The most tokens one image can be.
        """
        ...

    @property
    def image_rule(self) -> ImageRule | None:
        """
        The most tokens that an image of a known size can be; None where that does not tell.
        """
        ...

    @property
    def template_tokens(self) -> int:
        """
        The most tokens of the template around a prompt, messages and tools apart.
        """
        ...

    @property
    def caches_by_itself(self) -> bool:
        """
        Whether cache writes may be billed that no request asked for.
        """
        ...

    @property
    def headers_suffice(self) -> bool:
        """
        Whether token-count headers alone tell all usage of a request that marks no cache;
        False where only the body says how much was cached.
        """
        ...

    @property
    def heeded_limits(self) -> tuple[Path, ...]:
        """
        Where a request states the limits on output that its model goes by; empty where any may be one.
        """
        ...

    @property
    def fallback_output(self) -> int:
        """
        The most output tokens of a model that no list describes.
        """
        ...

    @property
    def least_output(self) -> int:
        """
        A list that puts a model's most output tokens below this is not believed.
        """
        ...

    @property
    def generates(self) -> bool:
        """
        False for embeddings, which have no output tokens.
        """
        ...

    @property
    def usage_marks(self) -> tuple[bytes, ...]:
        """
        Bytes of which one is in every chunk of a stream worth reading, AWS's metrics aside.
        """
        ...

    @property
    def text_window(self) -> int | None:
        """
        The most tokens that one text of an embedding can be; None where only lists say.
        """
        ...

    @property
    def least_window(self) -> int:
        """
        A list that puts a model's context window below this is not believed.
        """
        ...

    @property
    def windows_are_rounded(self) -> bool:
        """
        Whether lists give context windows in thousands that are of 1,024.
        """
        ...

    def read_request(self, body: Mapping[str, Any]) -> RequestSize:
        """
        How large a request is; never raises, the odd makes it larger.
        """
        ...

    def ceiling(self) -> RequestSize:
        """
        The size of a request that cannot be read: all that its model takes.
        """
        ...

    def read_made(self, document: Mapping[str, Any], asked: Usage) -> Usage | None:
        """
        What a reply shows was made of what was *asked* for, by meter; empty where it shows nothing,
        None where the family bills nothing by the piece.
        """
        ...

    def read_counts(self, document: Mapping[str, Any]) -> Counts:
        """
        The counts that a body, or one chunk of a stream, states; empty when it states none.
        """
        ...

    def is_final(self, chunk: Mapping[str, Any]) -> bool:
        """
        Whether a chunk that states usage states all of it, not a running count.
        """
        ...

    def opens_with(self, chunk: Mapping[str, Any]) -> str | None:
        """
        The name of *chunk*, if it is the one that counts the whole input before the answer begins.
        """
        ...
