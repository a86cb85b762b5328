"""
How each model family's InvokeModel bodies say what is asked and what was used.

To add a family: write a `reply` and, if it streams, a `chunks` in
`dialect_replies`, name them in a `Dialect` here, and add its line to `DIALECTS`.

Shapes follow recorded traffic. Whether a model accepts a parameter is not
checked: this server believes the request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from bedrock_guard.testing.loopback import dialect_replies as replies
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
        draws: Whether it makes images.
        caches: Whether its headers state cache counts even when they are 0.
    """

    texts: Paths
    limits: Paths
    reply: Reply
    chunks: Chunks
    copies: Paths = ()
    default_limit: int | None = None
    writes: bool = True
    draws: bool = False
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
            images=copies if self.draws else 0,
        )


def _whole(reply: Reply) -> Chunks:
    return lambda generation: [reply(generation)]


def _silent(texts: Paths, reply: Reply) -> Dialect:
    return Dialect(texts, (), reply, _whole(reply), writes=False)


def _image(copies: Paths) -> Dialect:
    reply = replies.images
    return Dialect((), (), reply, _whole(reply), copies=copies, writes=False, draws=True)


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
NOVA_EMBED: Final = _silent((("singleEmbeddingParams", "text", "value"),), replies.nova_embedding)
COHERE_EMBED: Final = _silent((("texts",),), replies.cohere_embedding)
IMAGES: Final = _image((("imageGenerationConfig", "numberOfImages"),))
ONE_IMAGE: Final = _image(())

# Model id begins with, body has, dialect: the first line that fits. Lines without a
# maker are for ARNs, which do not say whose model they stand for.
DIALECTS: Final[tuple[tuple[str, str, Dialect], ...]] = (
    ("anthropic.", "messages", ANTHROPIC),
    ("anthropic.", "", ANTHROPIC_TEXT),
    ("amazon.nova-canvas", "", IMAGES),
    ("amazon.nova", "singleEmbeddingParams", NOVA_EMBED),
    ("amazon.nova", "", NOVA),
    ("amazon.titan-image", "", IMAGES),
    ("amazon.titan-embed", "", TITAN_EMBED),
    ("amazon.titan", "", TITAN_TEXT),
    ("meta.", "", LLAMA),
    ("mistral.", "messages", OPENAI_CHAT),
    ("mistral.mistral-7b", "", replace(MISTRAL_TEXT, default_limit=512)),
    ("mistral.mixtral", "", replace(MISTRAL_TEXT, default_limit=512)),
    ("mistral.", "", MISTRAL_TEXT),
    ("cohere.embed", "", COHERE_EMBED),
    ("cohere.", "message", COHERE_COMMAND_R),
    ("cohere.", "", COHERE_COMMAND),
    ("deepseek.", "prompt", replace(COMPLETION, reply=replies.deepseek)),
    ("stability.", "", ONE_IMAGE),
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
