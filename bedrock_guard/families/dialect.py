"""
A family in tables: which keys hold what, where the dialects differ only by names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from bedrock_guard.domain.call import RequestSize
from bedrock_guard.domain.usage import OUTPUT_TOKENS, Usage
from bedrock_guard.families import limits
from bedrock_guard.families.beside_tokens import Beside, BesideReader, MadeReader
from bedrock_guard.families.counts import METRICS_TABLE, Counts, CountTable, merge, read_counts
from bedrock_guard.families.image_sizes import ImageRule
from bedrock_guard.families.measure import Measure, Reader

ChunkTest: TypeAlias = Callable[[Mapping[str, Any]], bool]


def says(*path: str) -> ChunkTest:
    """
    A test of chunks: whether they say anything, but null or no, at *path*.
    """
    return lambda chunk: bool(limits.at(chunk, path))


_STATES_USAGE: Final = says("usage")


@dataclass(frozen=True, slots=True)
class Dialect:
    """
    A family whose bodies can be described by tables.

    Attributes:
        parts: Readers of the keys of a request that are not simply text: messages, tools, media.
        usage: Where counts are, in bodies and chunks alike.
        rounds: Where the counts of each time are that the model was run, if `usage` may leave some out.
        final: Whether a chunk states all usage. Only those with one of `usage_marks` are asked:
            the others need no reading, for AWS's own metrics come in the last chunk.
        opening: The `type` of a stream's first chunk, where that counts the whole input.
        vectors: Keys of a reply that is an embedding, and so has no output tokens.
        default_output: The documented limit of an InvokeModel request that states none.
        beside: Reads from a request what is billed beside tokens, or instead of them.
        most_beside: The most that can be, of a request that cannot be read.
        made: Reads from a reply what was made, where that is billed by the piece.

    The others are those of `Family`.
    """

    name: str
    parts: Mapping[str, Reader] = field(default_factory=dict)
    usage: CountTable = ()
    rounds: CountTable = ()
    usage_marks: tuple[bytes, ...] = ()
    final: ChunkTest = _STATES_USAGE
    opening: str | None = None
    vectors: tuple[str, ...] = ()
    heeded_limits: tuple[limits.Path, ...] = ()
    default_output: int | None = None
    beside: BesideReader | None = None
    most_beside: Beside | None = None
    made: MadeReader | None = None
    text_window: int | None = None
    least_window: int = 0
    windows_are_rounded: bool = False
    image_tokens: int = 5_000
    image_rule: ImageRule | None = None
    template_tokens: int = 64
    caches_by_itself: bool = False
    headers_suffice: bool = True
    fallback_output: int = 128_000
    least_output: int = 0
    generates: bool = True

    def read_request(self, body: Mapping[str, Any]) -> RequestSize:
        """
        How large a request is; never raises, the odd makes it larger.
        """
        seen = Measure()
        try:
            for key, value in body.items():
                reader = self.parts.get(key)
                if reader:
                    reader(seen, value)
                elif isinstance(value, str):
                    seen.text(value)
                elif isinstance(value, dict | list):
                    seen.json({key: value})
        except RecursionError:
            seen.has_unseen = True
        size = RequestSize(
            text_bytes=seen.text_bytes,
            messages=max(seen.messages, 1),
            images=seen.images,
            image_tokens=self.image_tokens,
            has_tools=seen.has_tools,
            has_unseen=seen.has_unseen,
            output_limit=limits.output_limit(body, default=self.default_output, heeded=self.heeded_limits),
            candidates=limits.candidates(body),
            writes_cache=seen.writes_cache,
            generates=self.generates,
            max_input_tokens=limits.widened_input(body),
            may_search=seen.may_search,
        )
        if seen.pixels and self.image_rule is not None:
            size = size.with_sizes([self.image_rule(*pixels) for pixels in seen.pixels])
        return size if self.beside is None else self._with_beside(size, self.beside(body))

    def ceiling(self) -> RequestSize:
        """
        The size of a request that cannot be read: AWS refuses it, or reads more than can be seen here.
        """
        size = RequestSize(image_tokens=self.image_tokens, has_unseen=True, generates=self.generates)
        return size if self.most_beside is None else self._with_beside(size, self.most_beside)

    def read_made(self, document: Mapping[str, Any], asked: Usage) -> Usage | None:
        """
        What a reply shows was made of what was *asked* for; None where that is not billed by the piece.
        """
        return None if self.made is None else self.made(document, asked)

    def read_counts(self, document: Mapping[str, Any]) -> Counts:
        """
        The counts that a body, or one chunk of a stream, states; empty when it states none.
        """
        counts = merge((read_counts(document, self.usage), read_counts(document, METRICS_TABLE)))
        if self.rounds:
            counts = merge((counts, read_counts(document, self.rounds)))
        if OUTPUT_TOKENS not in counts and any(key in document for key in self.vectors):
            return {**counts, OUTPUT_TOKENS: 0}
        return counts

    def _with_beside(self, size: RequestSize, beside: Beside) -> RequestSize:
        return size._replace(
            beside_tokens=beside.usage,
            beside_is_exact=beside.is_exact,
            reads_tokens=beside.reads_tokens,
        )

    def is_final(self, chunk: Mapping[str, Any]) -> bool:
        """
        Whether a chunk that states usage states all of it, not a running count.
        """
        return self.final(chunk)

    def opens_with(self, chunk: Mapping[str, Any]) -> str | None:
        """
        The name of *chunk*, if it is the one that counts the whole input before the answer begins.
        """
        return self.opening if self.opening is not None and chunk.get("type") == self.opening else None
