"""
What AWS's price list calls a model, and the base id that calls name it by.

A name is compared by its words, whatever their order and the marks between them:
"Claude Opus 4.6", "Claude4.6Opus" and "claude-opus-4.6" are one. Nothing is
matched by a part of it: a name that is not here goes to the `unmatched` report.
To add one: a line in `MODEL_NAMES`, spelt as the price list spells it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from bedrock_guard.domain.model_id import parse_model_id

MODEL_NAMES: Final[Mapping[str, str]] = {
    "Jurassic-2 Mid": "ai21.j2-mid-v1",
    "Jurassic-2 Ultra": "ai21.j2-ultra-v1",
    "Jamba 1.5 Large": "ai21.jamba-1-5-large-v1:0",
    "Jamba 1.5 Mini": "ai21.jamba-1-5-mini-v1:0",
    "Jamba-Instruct": "ai21.jamba-instruct-v1:0",
    "Nova 2.5 Sonic": "amazon.nova-2-5-sonic",
    "Nova 2.0 Lite": "amazon.nova-2-lite-v1:0",
    "Nova 2.0 Pro Preview": "amazon.nova-2-pro-preview-20251202-v1:0",
    "Nova 2.0 Sonic": "amazon.nova-2-sonic-v1:0",
    "Nova 2.0 Multimodal Embeddings": "amazon.nova-2-multimodal-embeddings-v1:0",
    "Nova Multimodal Embeddings": "amazon.nova-2-multimodal-embeddings-v1:0",
    "Nova Canvas": "amazon.nova-canvas-v1:0",
    "Nova Lite": "amazon.nova-lite-v1:0",
    "Nova Micro": "amazon.nova-micro-v1:0",
    "Nova Premier": "amazon.nova-premier-v1:0",
    "Nova Pro": "amazon.nova-pro-v1:0",
    "Nova Reel": "amazon.nova-reel-v1:0",
    "Nova Sonic": "amazon.nova-sonic-v1:0",
    "Rerank 1.0": "amazon.rerank-v1:0",
    "Titan Embeddings G1 Text": "amazon.titan-embed-text-v1",
    "Titan Embeddings G1 Text 02": "amazon.titan-embed-g1-text-02",
    "Titan Text Embeddings V2": "amazon.titan-embed-text-v2:0",
    "Titan Multimodal Embeddings G1": "amazon.titan-embed-image-v1",
    "Titan Image Generator G1": "amazon.titan-image-generator-v1",
    "Titan Image Generator G1 V2": "amazon.titan-image-generator-v2:0",
    "Titan Text G1 Express": "amazon.titan-text-express-v1",
    "Titan Text G1 Lite": "amazon.titan-text-lite-v1",
    "Titan Text G1 Premier": "amazon.titan-text-premier-v1:0",
    "Titan Text Express": "amazon.titan-text-express-v1",
    "Titan Text Lite": "amazon.titan-text-lite-v1",
    "Titan Text Premier": "amazon.titan-text-premier-v1:0",
    "Claude 3 Haiku": "anthropic.claude-3-haiku-20240307-v1:0",
    "Claude 3 Opus": "anthropic.claude-3-opus-20240229-v1:0",
    "Claude 3 Sonnet": "anthropic.claude-3-sonnet-20240229-v1:0",
    "Claude 3.5 Haiku": "anthropic.claude-3-5-haiku-20241022-v1:0",
    "Claude 3.5 Sonnet": "anthropic.claude-3-5-sonnet-20240620-v1:0",
    "Claude 3.5 Sonnet v2": "anthropic.claude-3-5-sonnet-20241022-v2:0",
    "Claude 3.7 Sonnet": "anthropic.claude-3-7-sonnet-20250219-v1:0",
    "Claude Fable 5": "anthropic.claude-fable-5",
    "Claude Fable 5.1": "anthropic.claude-fable-5-1",
    "Claude Fable 5.2": "anthropic.claude-fable-5-2",
    "Claude Haiku 4.5": "anthropic.claude-haiku-4-5-20251001-v1:0",
    "Claude Haiku 5.5": "anthropic.claude-haiku-5-5",
    "Claude Instant": "anthropic.claude-instant-v1",
    "Claude Mythos 5": "anthropic.claude-mythos-5",
    "Claude Mythos 5.1": "anthropic.claude-mythos-5-1",
    "Claude Mythos 5.2": "anthropic.claude-mythos-5-2",
    "Claude Mythos Preview": "anthropic.claude-mythos-preview",
    "Claude Opus 4": "anthropic.claude-opus-4-20250514-v1:0",
    "Claude Opus 4.1": "anthropic.claude-opus-4-1-20250805-v1:0",
    "Claude Opus 4.5": "anthropic.claude-opus-4-5-20251101-v1:0",
    "Claude Opus 4.6": "anthropic.claude-opus-4-6-v1",
    "Claude Opus 4.7": "anthropic.claude-opus-4-7",
    "Claude Opus 4.8": "anthropic.claude-opus-4-8",
    "Claude Opus 5": "anthropic.claude-opus-5",
    "Claude Opus 5.5": "anthropic.claude-opus-5-5",
    "Claude Sonnet 4": "anthropic.claude-sonnet-4-20250514-v1:0",
    "Claude Sonnet 4.5": "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "Claude Sonnet 4.6": "anthropic.claude-sonnet-4-6",
    "Claude Sonnet 5": "anthropic.claude-sonnet-5",
    "Claude Sonnet 5.5": "anthropic.claude-sonnet-5-5",
    "Command": "cohere.command-text-v14",
    "Command Light": "cohere.command-light-text-v14",
    "Embed 3 English": "cohere.embed-english-v3",
    "Embed 3 Multilingual": "cohere.embed-multilingual-v3",
    "Embed 4": "cohere.embed-v4:0",
    "Rerank 3.5": "cohere.rerank-v3-5:0",
    "DeepSeek-R1": "deepseek.r1-v1:0",
    "R1": "deepseek.r1-v1:0",
    "DeepSeek V3": "deepseek.v3-v1:0",
    "DeepSeek V3.1": "deepseek.v3-v1:0",
    "DeepSeek V3.2": "deepseek.v3.2",
    "Gemma 3 4B": "google.gemma-3-4b-it",
    "Gemma 3 12B": "google.gemma-3-12b-it",
    "Gemma 3 27B": "google.gemma-3-27b-it",
    "Llama 2 Chat 13B": "meta.llama2-13b-chat-v1",
    "Llama 2 Chat 70B": "meta.llama2-70b-chat-v1",
    "Llama 3 8B": "meta.llama3-8b-instruct-v1:0",
    "Llama 3 70B": "meta.llama3-70b-instruct-v1:0",
    "Llama 3.1 8B": "meta.llama3-1-8b-instruct-v1:0",
    "Llama 3.1 70B": "meta.llama3-1-70b-instruct-v1:0",
    "Llama 3.1 405B": "meta.llama3-1-405b-instruct-v1:0",
    "Llama 3.2 1B": "meta.llama3-2-1b-instruct-v1:0",
    "Llama 3.2 3B": "meta.llama3-2-3b-instruct-v1:0",
    "Llama 3.2 11B": "meta.llama3-2-11b-instruct-v1:0",
    "Llama 3.2 90B": "meta.llama3-2-90b-instruct-v1:0",
    "Llama 3.3 70B": "meta.llama3-3-70b-instruct-v1:0",
    "Llama 4 Maverick 17B": "meta.llama4-maverick-17b-instruct-v1:0",
    "Llama 4 Scout 17B": "meta.llama4-scout-17b-instruct-v1:0",
    "MiniMax M2": "minimax.minimax-m2",
    "MiniMax M2.1": "minimax.minimax-m2.1",
    "MiniMax M2.5": "minimax.minimax-m2.5",
    "Devstral 2 123B": "mistral.devstral-2-123b",
    "Magistral Small 1.2": "mistral.magistral-small-2509",
    "Ministral 3B 3.0": "mistral.ministral-3-3b-instruct",
    "Ministral 8B 3.0": "mistral.ministral-3-8b-instruct",
    "Ministral 14B 3.0": "mistral.ministral-3-14b-instruct",
    "Mistral 7B": "mistral.mistral-7b-instruct-v0:2",
    "Mistral Large": "mistral.mistral-large-2402-v1:0",
    "Mistral Large 2407": "mistral.mistral-large-2407-v1:0",
    "Mistral Large 3": "mistral.mistral-large-3-675b-instruct",
    "Mistral Small": "mistral.mistral-small-2402-v1:0",
    "Mixtral 8x7B": "mistral.mixtral-8x7b-instruct-v0:1",
    "Pixtral Large 25.02": "mistral.pixtral-large-2502-v1:0",
    "Voxtral Mini 1.0": "mistral.voxtral-mini-3b-2507",
    "Voxtral Small 1.0": "mistral.voxtral-small-24b-2507",
    "Kimi K2 Thinking": "moonshot.kimi-k2-thinking",
    "Kimi K2.5": "moonshotai.kimi-k2.5",
    "Kimi K3": "moonshotai.kimi-k3",
    "Kimi K3.1": "moonshotai.kimi-k3.1",
    "Nemotron Nano 9B v2": "nvidia.nemotron-nano-9b-v2",
    "Nemotron Nano 12B v2": "nvidia.nemotron-nano-12b-v2",
    "Nemotron Nano 3 30B": "nvidia.nemotron-nano-3-30b",
    "Nemotron Super 3 120B": "nvidia.nemotron-super-3-120b",
    "GPT-5.4": "openai.gpt-5.4",
    "GPT-5.5": "openai.gpt-5.5",
    "GPT-5.6 Luna": "openai.gpt-5.6-luna",
    "GPT-5.6 Sol": "openai.gpt-5.6-sol",
    "GPT-5.6 Terra": "openai.gpt-5.6-terra",
    "GPT-6 Astra": "openai.gpt-6-astra",
    "GPT-6 Luna": "openai.gpt-6-luna",
    "GPT-6 Sol": "openai.gpt-6-sol",
    "GPT-6.1 Sol": "openai.gpt-6.1-sol",
    "GPT-6.1 Terra": "openai.gpt-6.1-terra",
    "gpt-oss-120b": "openai.gpt-oss-120b-1:0",
    "gpt-oss-20b": "openai.gpt-oss-20b-1:0",
    "GPT OSS Safeguard 120B": "openai.gpt-oss-safeguard-120b",
    "GPT OSS Safeguard 20B": "openai.gpt-oss-safeguard-20b",
    "Qwen3 235B A22B 2507": "qwen.qwen3-235b-a22b-2507-v1:0",
    "Qwen3 32B": "qwen.qwen3-32b-v1:0",
    "Qwen3 Coder 30B A3B": "qwen.qwen3-coder-30b-a3b-v1:0",
    "Qwen3 Coder 480B A35B": "qwen.qwen3-coder-480b-a35b-v1:0",
    "Qwen3 Coder Next": "qwen.qwen3-coder-next",
    "Qwen3 Next 80B A3B": "qwen.qwen3-next-80b-a3b",
    "Qwen3 VL 235B A22B": "qwen.qwen3-vl-235b-a22b",
    "SD3 Large": "stability.sd3-large-v1:0",
    "Stable Diffusion 3 Large": "stability.sd3-large-v1:0",
    "Stable Diffusion 3.5 Large": "stability.sd3-5-large-v1:0",
    "Stable Image Core": "stability.stable-image-core-v1:1",
    "Stable Image Ultra": "stability.stable-image-ultra-v1:1",
    "Stable Image Conservative Upscale": "stability.stable-conservative-upscale-v1:0",
    "Stable Image Creative Upscale": "stability.stable-creative-upscale-v1:0",
    "Stable Image Fast Upscale": "stability.stable-fast-upscale-v1:0",
    "Stable Image Control Sketch": "stability.stable-image-control-sketch-v1:0",
    "Stable Image Control Structure": "stability.stable-image-control-structure-v1:0",
    "Stable Image Erase Object": "stability.stable-image-erase-object-v1:0",
    "Stable Image Inpaint": "stability.stable-image-inpaint-v1:0",
    "Stable Image Outpaint": "stability.stable-outpaint-v1:0",
    "Stable Image Remove Background": "stability.stable-image-remove-background-v1:0",
    "Stable Image Search and Recolor": "stability.stable-image-search-recolor-v1:0",
    "Stable Image Search and Replace": "stability.stable-image-search-replace-v1:0",
    "Stable Image Style Guide": "stability.stable-image-style-guide-v1:0",
    "Stable Image Style Transfer": "stability.stable-style-transfer-v1:0",
    "Marengo Embed 2.7": "twelvelabs.marengo-embed-2-7-v1:0",
    "Marengo Embed 3.0": "twelvelabs.marengo-embed-3-0-v1:0",
    "Pegasus 1.2": "twelvelabs.pegasus-1-2-v1:0",
    "Pegasus 1.5": "twelvelabs.pegasus-1-5-v1:0",
    "Palmyra Vision 7B": "writer.palmyra-vision-7b",
    "Palmyra X4": "writer.palmyra-x4-v1:0",
    "Palmyra X5": "writer.palmyra-x5-v1:0",
    "Grok 4.6": "xai.grok-4.6",
    "Grok 4.7": "xai.grok-4.7",
    "GLM 4.7": "zai.glm-4.7",
    "GLM 4.7 Flash": "zai.glm-4.7-flash",
    "GLM 5": "zai.glm-5",
    "GLM 5.3": "zai.glm-5.3",
}

# Two ids of one model: each gets the prices of both.
SAME: Final = ("moonshot.kimi-k2-thinking", "moonshotai.kimi-k2-thinking")

_WORD: Final = re.compile(r"[a-z]+|[0-9]+(?:\.[0-9]+)*")
# Makers, where a name begins with one, and what only some spellings have.
_NOISE: Final = frozenset(
    (
        "amazon",
        "anthropic",
        "cohere",
        "edition",
        "google",
        "instruct",
        "labs",
        "meta",
        "nvidia",
        "openai",
        "stability",
        "twelvelabs",
        "writer",
        "xai",
        "zai",
    )
)


def words_of(name: str) -> tuple[str, ...]:
    """
    The words that tell one model from another; "2.0" is "2".
    """
    found = (word.removesuffix(".0") for word in _WORD.findall(name.lower().removeprefix("ai21")))
    return tuple(sorted(word for word in found if word not in _NOISE))


def _joined(name: str) -> str:
    """
    For usage types, which have lost the space between words: "MistralLarge".
    """
    return re.sub(r"[^a-z0-9.]|\.0(?![0-9])", "", name.lower())


_BY_WORDS: Final = {words_of(name): model for name, model in MODEL_NAMES.items()}
_BY_JOINED: Final = {_joined(name): model for name, model in MODEL_NAMES.items()}


def find_model(name: str, known: Collection[str], makers: Collection[str]) -> str | None:
    """
    The base id of the model that a price list calls *name*, or None.

    A name that is an id already needs no line in the table, even if no list has
    it yet, as long as its maker is one of *makers*.
    """
    ref = parse_model_id(name.strip().lower())
    if ref.kind != "foundation-model" or ref.model is None or ref.maker not in makers:
        return _named(name)
    spellings = (ref.model, f"{ref.model}:0", f"{ref.model}-v1:0", f"{ref.model}-1:0")
    dated = re.compile(rf"{re.escape(ref.model)}-[0-9]{{8}}-v[0-9]+:0")
    found = [
        *(each for each in spellings if each in known),
        *(each for each in known if dated.fullmatch(each)),
        *filter(None, [_named(ref.model.partition(".")[2])]),
    ]
    return next((each for each in found if each.startswith(f"{ref.maker}.")), ref.model)


def _named(name: str) -> str | None:
    return _BY_WORDS.get(words_of(name)) or _BY_JOINED.get(_joined(name))
