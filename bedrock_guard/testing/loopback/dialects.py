"""
How each model family's InvokeModel bodies say what is asked and what was used.

To add a family: write a `reply` and, if it streams, a `chunks` in
`dialect_replies`, name them in a `Dialect` here, and add its line to `DIALECTS`.

Shapes follow recorded traffic. Whether a model accepts a parameter is not
checked: this server believes the request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from bedrock_guard.testing.loopback import dialect_replies as replies
from bedrock_guard.testing.loopback import media
from bedrock_guard.testing.loopback.dialect_replies import Document
from bedrock_guard.testing.loopback.generation import Generation
from bedrock_guard.testing.loopback.prompt import Body, Prompt, first_integer, read_parts

Reply: TypeAlias = Callable[[Generation], Document]
Chunks: TypeAlias = Callable[[Generation], Sequence[Document]]
Paths: TypeAlias = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """
    One family's way of writing requests and replies.

    Attributes:
        texts: Where the prompt is, in the order of caching.
        limits: Where the output limit may be; the first found counts.
        reply: The body of InvokeModel.
        chunks: The bodies of the stream, without invocation metrics.
        copies: Where the number of answers or images is asked for.
        default_limit: The documented limit of a request that states none.
        writes: Whether it writes text.
        media: What is billed beside tokens, by meter.
        has_free_input: Whether its input is counted, and not billed.
        caches: Whether its headers state cache counts even when they are 0.
    """

    texts: Paths
    limits: Paths
    reply: Reply
    chunks: Chunks
    copies: Paths = ()
    default_limit: int | None = None
    writes: bool = True
    media: Callable[[Body], Mapping[str, int]] | None = None
    has_free_input: bool = False
    caches: bool = False

    def read(self, body: Body) -> Prompt:
        """
        What a request body asks for.
        """
        copies = first_integer(body, self.copies) or 1
        limit = first_integer(body, self.limits)
        return Prompt(
            parts=read_parts(body, self.texts),
            output_limit=self.default_limit if limit is None else limit,
            copies=copies,
            writes=self.writes,
            media={} if self.media is None else self.media(body),
            has_free_input=self.has_free_input,
        )


def _whole(reply: Reply) -> Chunks:
    return lambda generation: [reply(generation)]


def _silent(
    texts: Paths, reply: Reply, read_media: Callable[[Body], Mapping[str, int]] | None = None
) -> Dialect:
    return Dialect(texts, (), reply, _whole(reply), writes=False, media=read_media)


ANTHROPIC: Final = Dialect(
    texts=(("tools",), ("system",), ("messages",)),
    limits=(("max_tokens",),),
    reply=replies.anthropic,
    chunks=replies.anthropic_chunks,
    caches=True,
)
ANTHROPIC_TEXT: Final = Dialect(
    texts=(("prompt",),),
    limits=(("max_tokens_to_sample",),),
    reply=replies.anthropic_text,
    chunks=replies.anthropic_text_chunks,
)
NOVA: Final = Dialect(
    texts=(("toolConfig", "tools"), ("system",), ("messages",)),
    limits=(("inferenceConfig", "maxTokens"), ("inferenceConfig", "max_new_tokens")),
    reply=replies.nova,
    chunks=replies.nova_chunks,
    caches=True,
)
TITAN_TEXT: Final = Dialect(
    texts=(("inputText",),),
    limits=(("textGenerationConfig", "maxTokenCount"),),
    reply=replies.titan,
    chunks=replies.titan_chunks,
    default_limit=512,
)
LLAMA: Final = Dialect(
    texts=(("prompt",),),
    limits=(("max_gen_len",),),
    reply=replies.llama,
    chunks=replies.llama_chunks,
    default_limit=512,
)
MISTRAL_TEXT: Final = Dialect(
    texts=(("prompt",),),
    limits=(("max_tokens",),),
    reply=replies.mistral,
    chunks=replies.mistral_chunks,
)
COHERE_COMMAND: Final = Dialect(
    texts=(("prompt",),),
    limits=(("max_tokens",),),
    reply=replies.cohere,
    chunks=replies.cohere_chunks,
    copies=(("num_generations",),),
)
COHERE_COMMAND_R: Final = Dialect(
    texts=(("tools",), ("preamble",), ("chat_history",), ("documents",), ("message",), ("tool_results",)),
    limits=(("max_tokens",),),
    reply=replies.cohere_r,
    chunks=replies.cohere_r_chunks,
)
OPENAI_CHAT: Final = Dialect(
    texts=(("tools",), ("messages",)),
    limits=(("max_completion_tokens",), ("max_tokens",), ("max_gen_len",)),
    reply=replies.openai_chat,
    chunks=replies.openai_chat_chunks,
    copies=(("n",),),
)
COMPLETION: Final = Dialect(
    texts=(("prompt",),),
    limits=(("max_tokens",), ("maxTokens",)),
    reply=replies.completion,
    chunks=replies.completion_chunks,
)
UNKNOWN: Final = Dialect(
    texts=(("message",), ("inputPrompt",), ("text",)),
    limits=(("max_tokens",), ("maxTokens",), ("maxOutputTokens",)),
    reply=replies.unknown,
    chunks=replies.unknown_chunks,
)
TITAN_EMBED: Final = _silent((("inputText",),), replies.titan_embedding)
TITAN_MULTIMODAL: Final = _silent((("inputText",),), replies.titan_embedding, media.read_titan_embedding)
NOVA_EMBED: Final = _silent(
    (("singleEmbeddingParams", "text", "value"), ("segmentedEmbeddingParams", "text", "value")),
    replies.nova_embedding,
    media.read_nova_embedding,
)
COHERE_EMBED: Final = _silent((("texts",),), replies.cohere_embedding)
CANVAS: Final = _silent((), media.pictures, media.read_canvas)
TITAN_IMAGE: Final = _silent((), media.pictures, media.read_titan)
STABILITY: Final = _silent((), media.pictures, lambda _body: {"images": 1})
RERANK: Final = _silent((), media.ranks, media.read_rerank)
MARENGO: Final = _silent((), media.marengo, media.read_marengo)
REEL: Final = _silent((), replies.unknown, media.read_reel)
LUMA: Final = _silent((), replies.unknown, media.read_luma)
PEGASUS: Final = Dialect(
    texts=(("inputPrompt",),),
    limits=(("maxOutputTokens",),),
    reply=media.pegasus,
    chunks=_whole(media.pegasus),
    media=media.read_pegasus,
    has_free_input=True,
)

# Model id begins with, body has, dialect: the first line that fits. Lines without a
# maker are for ARNs, which do not say whose model they stand for.
DIALECTS: Final[tuple[tuple[str, str, Dialect], ...]] = (
    ("anthropic.", "messages", ANTHROPIC),
    ("anthropic.", "", ANTHROPIC_TEXT),
    ("amazon.nova-canvas", "", CANVAS),
    ("amazon.nova-reel", "", REEL),
    ("amazon.nova-2-multimodal", "", NOVA_EMBED),
    ("amazon.nova", "", NOVA),
    ("amazon.rerank", "", RERANK),
    ("amazon.titan-image", "", TITAN_IMAGE),
    ("amazon.titan-embed-image", "", TITAN_MULTIMODAL),
    ("amazon.titan-embed", "", TITAN_EMBED),
    ("amazon.titan", "", TITAN_TEXT),
    ("meta.", "", LLAMA),
    ("mistral.", "messages", OPENAI_CHAT),
    ("mistral.mistral-7b", "", replace(MISTRAL_TEXT, default_limit=512)),
    ("mistral.mixtral", "", replace(MISTRAL_TEXT, default_limit=512)),
    ("mistral.", "", MISTRAL_TEXT),
    ("cohere.embed", "", COHERE_EMBED),
    ("cohere.rerank", "", RERANK),
    ("cohere.", "message", COHERE_COMMAND_R),
    ("cohere.", "", COHERE_COMMAND),
    ("deepseek.", "prompt", replace(COMPLETION, reply=replies.deepseek)),
    ("luma.", "", LUMA),
    ("stability.", "", STABILITY),
    ("twelvelabs.marengo", "", MARENGO),
    ("twelvelabs.pegasus", "", PEGASUS),
    ("", "anthropic_version", ANTHROPIC),
    ("", "inferenceConfig", NOVA),
    ("", "inputText", TITAN_TEXT),
    ("", "messages", OPENAI_CHAT),
    ("", "max_gen_len", LLAMA),
    ("", "prompt", COMPLETION),
    ("", "", UNKNOWN),
)

_SCOPE: Final = re.compile(r"^(?:us|eu|apac|global|jp|au|ca|sa|in|us-gov)\.")


def dialect_of(model_id: str, body: Body) -> Dialect:
    """
    The dialect a request is written in.
    """
    name = _SCOPE.sub("", model_id.rpartition("/")[2])
    return next(
        dialect for prefix, key, dialect in DIALECTS if name.startswith(prefix) and (not key or key in body)
    )
