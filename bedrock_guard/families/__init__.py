"""
Families: how each maker's models are asked by InvokeModel, and where they say what was used.

To add one: describe its dialect in a file of this folder, and add its line to
`FAMILIES`. A line is a maker, exactly, and how the names of its models begin;
of several that fit, the longest counts. A model without a line is `UNKNOWN`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from bedrock_guard.domain.call import ModelRef
from bedrock_guard.families import (
    ai21,
    amazon_images,
    anthropic,
    cohere,
    deepseek,
    llama,
    luma,
    mistral,
    nova,
    nova_embeddings,
    nova_reel,
    openai_chat,
    rerank,
    stability,
    titan,
    twelvelabs,
    writer,
)
from bedrock_guard.families.contract import Family
from bedrock_guard.families.unknown import UNKNOWN

__all__ = ["FAMILIES", "UNKNOWN", "Family", "family_of"]

FAMILIES: Final[dict[tuple[str, str], Family]] = {
    ("ai21", ""): ai21.AI21,
    ("amazon", "nova"): nova.NOVA,
    ("amazon", "nova-2-multimodal-embeddings"): nova_embeddings.NOVA_EMBEDDINGS,
    ("amazon", "nova-canvas"): amazon_images.NOVA_CANVAS,
    ("amazon", "nova-reel"): nova_reel.NOVA_REEL,
    ("amazon", "rerank"): rerank.AMAZON_RERANK,
    ("amazon", "titan-embed"): titan.TITAN_EMBEDDINGS,
    ("amazon", "titan-embed-image"): titan.TITAN_IMAGE_EMBEDDINGS,
    ("amazon", "titan-image"): amazon_images.TITAN_IMAGE,
    ("amazon", "titan-text"): titan.TITAN_TEXT,
    ("anthropic", ""): anthropic.ANTHROPIC,
    ("anthropic", "claude-3"): anthropic.CLAUDE_3,
    ("anthropic", "claude-3-5"): anthropic.CLAUDE_3_5,
    ("anthropic", "claude-3-7"): anthropic.CLAUDE_3_7,
    ("anthropic", "claude-haiku-4-5"): anthropic.UP_TO_4_6,
    ("anthropic", "claude-instant"): anthropic.CLAUDE_2,
    ("anthropic", "claude-opus-4-1"): anthropic.UP_TO_4_6,
    ("anthropic", "claude-opus-4-2025"): anthropic.UP_TO_4_6,
    ("anthropic", "claude-opus-4-5"): anthropic.UP_TO_4_6,
    ("anthropic", "claude-opus-4-6"): anthropic.UP_TO_4_6,
    ("anthropic", "claude-sonnet-4-2025"): anthropic.UP_TO_4_6,
    ("anthropic", "claude-sonnet-4-5"): anthropic.UP_TO_4_6,
    ("anthropic", "claude-sonnet-4-6"): anthropic.UP_TO_4_6,
    ("anthropic", "claude-v"): anthropic.CLAUDE_2,
    ("cohere", ""): cohere.COMMAND,
    ("cohere", "embed"): cohere.EMBED,
    ("cohere", "rerank"): rerank.COHERE_RERANK,
    ("deepseek", ""): deepseek.DEEPSEEK,
    ("google", ""): openai_chat.OPENAI_CHAT,
    ("luma", ""): luma.LUMA,
    ("meta", ""): llama.LLAMA,
    ("minimax", ""): openai_chat.OPENAI_CHAT,
    ("mistral", ""): mistral.MISTRAL,
    ("mistral", "mistral-7b"): mistral.FIRST_SMALL,
    ("mistral", "mistral-large-2402"): mistral.FIRST_LARGE,
    ("mistral", "mistral-large-2407"): mistral.LARGE_2407,
    ("mistral", "mistral-small-2402"): mistral.FIRST_LARGE,
    ("mistral", "mixtral"): mistral.FIRST_SMALL,
    ("mistral", "pixtral"): mistral.PIXTRAL,
    ("moonshot", ""): openai_chat.OPENAI_CHAT,
    ("moonshotai", ""): openai_chat.CACHING,
    ("moonshotai", "kimi-k2"): openai_chat.OPENAI_CHAT,
    ("nvidia", ""): openai_chat.OPENAI_CHAT,
    ("openai", ""): openai_chat.CACHING,
    ("openai", "gpt-5.4"): openai_chat.READING,
    ("openai", "gpt-5.5"): openai_chat.READING,
    ("openai", "gpt-oss"): openai_chat.GPT_OSS,
    ("qwen", ""): openai_chat.OPENAI_CHAT,
    ("stability", ""): stability.STABILITY,
    ("twelvelabs", "marengo"): twelvelabs.MARENGO,
    ("twelvelabs", "marengo-embed-2"): twelvelabs.MARENGO_2,
    ("twelvelabs", "pegasus"): twelvelabs.PEGASUS,
    ("twelvelabs", "pegasus-1-2"): twelvelabs.PEGASUS_1_2,
    ("writer", ""): writer.WRITER,
    ("writer", "palmyra-x5"): writer.PALMYRA_X5,
    ("xai", ""): openai_chat.GROK,
    ("zai", ""): openai_chat.CACHING,
    ("zai", "glm-4"): openai_chat.OPENAI_CHAT,
    ("zai", "glm-5"): openai_chat.OPENAI_CHAT,
    ("zai", "glm-5."): openai_chat.CACHING,
}


def family_of(model: ModelRef) -> Family:
    """
    The family whose dialect a model speaks.
    """
    return UNKNOWN if model.model is None or model.maker is None else _find(model.maker, model.model)


@lru_cache(maxsize=1024)
def _find(maker: str, model: str) -> Family:
    name = model.removeprefix(f"{maker}.")
    fitting = [prefix for line_maker, prefix in FAMILIES if line_maker == maker and name.startswith(prefix)]
    return FAMILIES[maker, max(fitting, key=len)] if fitting else UNKNOWN
