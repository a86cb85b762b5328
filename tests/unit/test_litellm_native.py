"""
What LiteLLM asks of Bedrock past every transport, without LiteLLM: `tests/frameworks` has the proxy itself.
"""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bedrock_guard import Guard
from bedrock_guard.errors import UnmeteredOperation
from bedrock_guard.hooks.litellm_native import close_native_ways

RUST = "litellm.rust_bridge.runtime"
SPEECH = "litellm.llms.bedrock.realtime.handler"


class BadRequestError(Exception):
    """
    LiteLLM's, as far as it is made here.
    """

    def __init__(self, *, message: str, model: str, llm_provider: str) -> None:
        super().__init__(message)
        self.about = llm_provider, model


class BedrockRealtime:
    """
    LiteLLM's, whose one method opens a stream of Amazon's client.
    """

    async def async_realtime(self, model: str, websocket: object) -> str:
        return f"{model} speaks"


def run(context: Any, *, binding: object, native: Any, python: Any, rules: object = None) -> Any:
    return native()


async def arun(context: Any, *, binding: object, native: Any, python: Any, rules: object = None) -> Any:
    return await native()


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """
    As much of LiteLLM as there is to close.
    """
    made: dict[str, Any] = {name: ModuleType(name) for name in (RUST, SPEECH, "litellm.exceptions")}
    made[RUST].run, made[RUST].arun = run, arun
    kind = type("BedrockRealtime", (), {"async_realtime": BedrockRealtime.async_realtime})
    made[SPEECH].BedrockRealtime = kind
    made["litellm.exceptions"].BadRequestError = BadRequestError
    for name, module in made.items():
        for parent in (name.rsplit(".", depth)[0] for depth in range(1, name.count(".") + 1)):
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        monkeypatch.setitem(sys.modules, name, module)
    return made


def close(**settings: Any) -> None:
    with Guard(budgets=[], ledger="memory://", settings={}, **settings) as guard:
        close_native_ways(guard)


def context(provider: str | None) -> SimpleNamespace:
    return SimpleNamespace(route=SimpleNamespace(value="transcription"), provider=provider, model="voxtral")


async def native() -> str:
    return "by Rust"


def how(python: Any) -> dict[str, Any]:
    return {"binding": None, "native": native, "python": python}


@pytest.mark.parametrize("provider", ["bedrock", "bedrock_mantle"])
def test_what_only_rust_does_of_bedrock_is_refused(provider: str, modules: dict[str, Any]) -> None:
    """
    By an error of LiteLLM's own, which its proxy says with HTTP 400; ours is its cause.
    """
    close()

    for way in ("run", "arun"):
        with pytest.raises(BadRequestError, match=r"transcription of voxtral .* on_unmetered") as raised:
            getattr(modules[RUST], way)(context(provider), **how(object()))
        assert isinstance(raised.value.__cause__, UnmeteredOperation)
        assert raised.value.about == ("bedrock", "voxtral")


def test_what_python_does_as_well_is_done_there(modules: dict[str, Any]) -> None:
    """
    Whoever is asked: an address of Bedrock's may be given to any provider.
    """
    close()

    async def by_httpx() -> str:
        return "by httpx"

    async def both() -> list[str]:
        runtime = modules[RUST]
        return [
            runtime.run(context("bedrock"), **how(lambda: "by httpx")),
            await runtime.arun(context("openai"), **how(by_httpx)),
        ]

    assert asyncio.run(both()) == ["by httpx", "by httpx"]


def test_what_only_rust_does_of_others_goes_on(modules: dict[str, Any]) -> None:
    """
    Their prices are not known here.
    """
    close()

    assert asyncio.run(modules[RUST].arun(context("mistral"), **how(object()))) == "by Rust"
    assert asyncio.run(modules[RUST].arun(context(None), **how(object()))) == "by Rust"


def test_realtime_speech_is_refused(modules: dict[str, Any]) -> None:
    """
    However LiteLLM names its arguments.
    """
    close()
    speech = modules[SPEECH].BedrockRealtime()

    with pytest.raises(BadRequestError, match="realtime of sonic would bill"):
        asyncio.run(speech.async_realtime(model="sonic", websocket=None))
    with pytest.raises(BadRequestError, match="realtime of sonic would bill"):
        asyncio.run(speech.async_realtime("sonic", None))


def test_whoever_allows_what_cannot_be_counted_has_all_of_it(modules: dict[str, Any]) -> None:
    """
    As of every other client.
    """
    close(on_unmetered="allow")
    speech = modules[SPEECH].BedrockRealtime()

    assert asyncio.run(speech.async_realtime("sonic", None)) == "sonic speaks"
    assert asyncio.run(modules[RUST].arun(context("bedrock"), **how(object()))) == "by Rust"


def test_an_older_litellm_has_no_such_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    There is nothing to close.
    """
    for name in (RUST, SPEECH):
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]

    close()
