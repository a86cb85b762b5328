"""
The bodies in which each family answers InvokeModel, whole and in chunks.

Pure functions of a generation; `dialects` says which family uses which.
Where a family does not state its usage in the body, neither does this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from bedrock_guard.testing.loopback.generation import Generation, Usage

Document: TypeAlias = Mapping[str, object]

VECTOR: Final = (0.125, -0.25, 0.5, -0.0625)


def stop(generation: Generation, by_limit: str, by_itself: str) -> str:
    """
    Why the text ended, in a family's words.
    """
    return by_limit if generation.cut else by_itself


def _ended(generation: Generation, by_limit: str, by_itself: str) -> list[tuple[str, str | None]]:
    """
    The text in pieces, each with its stop reason: None but for the last.
    """
    pieces = generation.pieces or ("",)
    reason = stop(generation, by_limit, by_itself)
    return [*((piece, None) for piece in pieces[:-1]), (pieces[-1], reason)]


def anthropic(generation: Generation) -> Document:
    """
    A message of Claude.
    """
    return {
        "id": "msg_bdrk_loopback",
        "type": "message",
        "role": "assistant",
        "model": "loopback",
        "content": [{"type": "text", "text": generation.text}],
        "stop_reason": stop(generation, "max_tokens", "end_turn"),
        "stop_sequence": None,
        "usage": _anthropic_usage(generation.usage, generation.usage.output_tokens),
    }


def anthropic_chunks(generation: Generation) -> Sequence[Document]:
    """
    The same, streamed: usage at both ends, output counted cumulatively.
    """
    start = {
        **anthropic(generation),
        "content": [],
        "stop_reason": None,
        "usage": _anthropic_usage(generation.usage, min(1, generation.usage.output_tokens)),
    }
    reason = stop(generation, "max_tokens", "end_turn")
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in generation.pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": generation.usage.output_tokens},
        },
        {"type": "message_stop"},
    ]


def _anthropic_usage(usage: Usage, output_tokens: int) -> Document:
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_input_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_write_5m_input_tokens,
            "ephemeral_1h_input_tokens": usage.cache_write_1h_input_tokens,
        },
        "output_tokens": output_tokens,
    }


def anthropic_text(generation: Generation) -> Document:
    """
    A completion of Claude 2: no usage in the body.
    """
    reason = stop(generation, "max_tokens", "stop_sequence")
    return {"completion": generation.text, "stop_reason": reason, "stop": None}


def anthropic_text_chunks(generation: Generation) -> Sequence[Document]:
    """
    The same, streamed.
    """
    ended = _ended(generation, "max_tokens", "stop_sequence")
    return [{"completion": piece, "stop_reason": reason, "stop": None} for piece, reason in ended]


def nova(generation: Generation) -> Document:
    """
    A message of Nova.
    """
    return {
        "output": {"message": {"content": [{"text": generation.text}], "role": "assistant"}},
        "stopReason": stop(generation, "max_tokens", "end_turn"),
        "usage": _nova_usage(generation.usage),
    }


def nova_chunks(generation: Generation) -> Sequence[Document]:
    """
    The same, streamed: a stop after every delta, and usage in the last chunk.
    """
    chunks: list[Document] = [{"messageStart": {"role": "assistant"}}]
    for index, piece in enumerate(generation.pieces):
        chunks.append({"contentBlockDelta": {"delta": {"text": piece}, "contentBlockIndex": index}})
        chunks.append({"contentBlockStop": {"contentBlockIndex": index}})
    chunks.append({"messageStop": {"stopReason": stop(generation, "max_tokens", "end_turn")}})
    chunks.append({"metadata": {"usage": _nova_usage(generation.usage), "metrics": {}, "trace": {}}})
    return chunks


def _nova_usage(usage: Usage) -> Document:
    return {
        "inputTokens": usage.input_tokens,
        "outputTokens": usage.output_tokens,
        "totalTokens": usage.total_tokens,
        "cacheReadInputTokenCount": usage.cache_read_input_tokens,
        "cacheWriteInputTokenCount": usage.cache_write_input_tokens,
    }


def titan(generation: Generation) -> Document:
    """
    A text of Titan.
    """
    result = {
        "tokenCount": generation.usage.output_tokens,
        "outputText": generation.text,
        "completionReason": stop(generation, "LENGTH", "FINISH"),
    }
    return {"inputTextTokenCount": generation.usage.total_input_tokens, "results": [result]}


def titan_chunks(generation: Generation) -> Sequence[Document]:
    """
    The same, streamed: counts in the last chunk.
    """
    usage = generation.usage
    return [
        {
            "outputText": piece,
            "index": 0,
            "totalOutputTextTokenCount": usage.output_tokens if reason else None,
            "completionReason": reason,
            "inputTextTokenCount": usage.total_input_tokens if reason else None,
        }
        for piece, reason in _ended(generation, "LENGTH", "FINISH")
    ]


def llama(generation: Generation) -> Document:
    """
    A text of Llama.
    """
    return {
        "generation": generation.text,
        "prompt_token_count": generation.usage.total_input_tokens,
        "generation_token_count": generation.usage.output_tokens,
        "stop_reason": stop(generation, "length", "stop"),
    }


def llama_chunks(generation: Generation) -> Sequence[Document]:
    """
    The same, streamed: the prompt's count in the first chunk, a running one in each.
    """
    ended = _ended(generation, "length", "stop")
    usage = generation.usage
    return [
        {
            "generation": piece,
            "prompt_token_count": usage.total_input_tokens if number == 1 else None,
            "generation_token_count": usage.output_tokens * number // len(ended),
            "stop_reason": reason,
        }
        for number, (piece, reason) in enumerate(ended, start=1)
    ]


def mistral(generation: Generation) -> Document:
    """
    A text of Mistral: no usage in the body.
    """
    return {"outputs": [{"text": generation.text, "stop_reason": stop(generation, "length", "stop")}]}


def mistral_chunks(generation: Generation) -> Sequence[Document]:
    """
    The same, streamed.
    """
    ended = _ended(generation, "length", "stop")
    return [{"outputs": [{"text": piece, "stop_reason": reason}]} for piece, reason in ended]


def cohere(generation: Generation) -> Document:
    """
    A text of Command: no usage in the body.
    """
    reason = stop(generation, "MAX_TOKENS", "COMPLETE")
    answer = {"finish_reason": reason, "id": "loopback", "text": generation.text}
    return {"generations": [answer], "id": "loopback", "prompt": generation.body.get("prompt")}


def cohere_chunks(generation: Generation) -> Sequence[Document]:
    """
    The same, streamed: the last chunk carries no text.
    """
    reason = stop(generation, "MAX_TOKENS", "COMPLETE")
    texts = [{"is_finished": False, "text": piece} for piece in generation.pieces]
    return [*texts, {"finish_reason": reason, "is_finished": True}]


def cohere_r(generation: Generation) -> Document:
    """
    An answer of Command R: no usage in the body.
    """
    reason = stop(generation, "MAX_TOKENS", "COMPLETE")
    return {"text": generation.text, "generation_id": "loopback", "finish_reason": reason}


def cohere_r_chunks(generation: Generation) -> Sequence[Document]:
    """
    The same, streamed, where it does state its usage.
    """
    usage = generation.usage
    billed = {"input_tokens": usage.total_input_tokens, "output_tokens": usage.output_tokens}
    return [
        {"is_finished": False, "event_type": "stream-start", "generation_id": "loopback"},
        *(
            {"is_finished": False, "event_type": "text-generation", "text": piece}
            for piece in generation.pieces
        ),
        {
            "is_finished": True,
            "event_type": "stream-end",
            "finish_reason": stop(generation, "MAX_TOKENS", "COMPLETE"),
            "response": {**cohere_r(generation), "meta": {"billed_units": billed}},
        },
    ]


def openai_chat(generation: Generation) -> Document:
    """
    A chat completion, as gpt-oss, Jamba, Qwen, Mistral's chat models and others answer.
    """
    message = {"role": "assistant", "content": generation.text, "refusal": None}
    reason = stop(generation, "length", "stop")
    choice = {"index": 0, "finish_reason": reason, "message": message, "logprobs": None}
    return {**_openai("chat.completion", [choice]), "usage": _openai_usage(generation.usage)}


def openai_chat_chunks(generation: Generation) -> Sequence[Document]:
    """
    The same, streamed: usage in a last chunk without choices.
    """
    first = {"delta": {"content": "", "role": "assistant"}, "finish_reason": None, "index": 0}
    deltas = [{"delta": {"content": piece}, "finish_reason": None, "index": 0} for piece in generation.pieces]
    last = {"delta": {}, "finish_reason": stop(generation, "length", "stop"), "index": 0}
    kind = "chat.completion.chunk"
    choices: list[Document] = [first, *deltas, last]
    chunks = [_openai(kind, [choice]) for choice in choices]
    return [*chunks, {**_openai(kind, []), "usage": _openai_usage(generation.usage)}]


def _openai(kind: str, choices: Sequence[Document]) -> Document:
    return {
        "choices": choices,
        "created": 1,
        "id": "chatcmpl-loopback",
        "model": "loopback",
        "object": kind,
        "service_tier": "auto",
    }


def _openai_usage(usage: Usage) -> Document:
    # Here, unlike anywhere else on Bedrock, the prompt's count includes what was cached.
    stated: dict[str, object] = {
        "prompt_tokens": usage.total_input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cache_read_input_tokens:
        stated["prompt_tokens_details"] = {"cached_tokens": usage.cache_read_input_tokens}
    return stated


def completion(generation: Generation) -> Document:
    """
    A text completion, as imported models and endpoints answer.
    """
    choice = {"index": 0, "text": generation.text, "finish_reason": stop(generation, "length", "stop")}
    return {**_openai("text_completion", [choice]), "usage": _openai_usage(generation.usage)}


def completion_chunks(generation: Generation) -> Sequence[Document]:
    """
    The same, streamed: no usage but the metrics.
    """
    ended = _ended(generation, "length", "stop")
    return [
        _openai("text_completion", [{"index": 0, "text": piece, "finish_reason": reason}])
        for piece, reason in ended
    ]


def deepseek(generation: Generation) -> Document:
    """
    A text of DeepSeek R1: no usage in the body.
    """
    return {"choices": [{"text": generation.text, "stop_reason": stop(generation, "length", "stop")}]}


def titan_embedding(generation: Generation) -> Document:
    """
    One vector of Titan.
    """
    return {"embedding": VECTOR, "inputTextTokenCount": generation.usage.total_input_tokens}


def nova_embedding(_generation: Generation) -> Document:
    """
    One vector of Nova: no usage in the body.
    """
    return {"embeddings": [{"embeddingType": "TEXT", "embedding": VECTOR}]}


def cohere_embedding(generation: Generation) -> Document:
    """
    A vector for each text: no usage in the body.
    """
    texts = generation.body.get("texts")
    count = len(texts) if isinstance(texts, list) else 1
    return {"embeddings": [VECTOR] * count, "id": "loopback", "response_type": "embeddings_floats"}


def unknown(generation: Generation) -> Document:
    """
    What no family answers: usage is in the headers only.
    """
    return {"text": generation.text}


def unknown_chunks(generation: Generation) -> Sequence[Document]:
    """
    The same, streamed.
    """
    return [{"text": piece} for piece in generation.pieces or ("",)]
