"""
What LiteLLM asks of Bedrock past every transport: by a client of its own in Rust, and by Amazon's for speech.

Nothing of these can be held for. Where LiteLLM has the same in Python it is done there; what is left would
bill uncounted, and is refused, as `on_unmetered` says.

To add a way past: its line in `_BY_RUST`, or in `_BEDROCK_ALONE`.
"""

from __future__ import annotations

from contextlib import suppress
from functools import wraps
from importlib import import_module
from typing import Any, Final

from bedrock_guard.errors import UnmeteredOperation
from bedrock_guard.hooks.httpx_requests import Holding

# Each call that may be Rust's goes through one of these, with what would do it in Python.
_BY_RUST: Final = ("litellm.rust_bridge.runtime", ("run", "arun"))
# Whose calls are all Bedrock's: the module, the class, its method.
_BEDROCK_ALONE: Final = ("litellm.llms.bedrock.realtime.handler", "BedrockRealtime", "async_realtime")
# LiteLLM has several providers that are Bedrock.
_BEDROCK: Final = "bedrock"


def close_native_ways(guard: Holding) -> None:
    """
    Keep what this process asks of Bedrock on the ways that transports see; for the rest of the process.
    """
    if guard.resolved.settings.on_unmetered != "refuse":
        return
    with suppress(ImportError):
        module, names = _BY_RUST
        runtime = import_module(module)
        for name in names:
            setattr(runtime, name, _in_python(getattr(runtime, name)))
    with suppress(ImportError):
        module, kind, method = _BEDROCK_ALONE
        handler: Any = getattr(import_module(module), kind)
        setattr(handler, method, _refused(getattr(handler, method)))


def _in_python(original: Any) -> Any:
    # One for both: what `arun` returns is awaited.
    @wraps(original)
    def run(context: Any, **how: Any) -> Any:
        python = how.get("python")
        if callable(python):
            return python()
        if str(context.provider or "").startswith(_BEDROCK):
            raise _refusal(f"{context.route.value} of {context.model}", context.model)
        return original(context, **how)

    return run


def _refused(original: Any) -> Any:
    @wraps(original)
    async def refuse(_: Any, *args: Any, **asked: Any) -> Any:
        model = args[0] if args else asked.get("model")
        raise _refusal(f"realtime of {model}", model)

    return refuse


def _refusal(what: str, model: object) -> Exception:
    """
    An error of LiteLLM's own, which its proxy says with HTTP 400, and does not try again.
    """
    error = UnmeteredOperation(
        f"{what} would bill, and LiteLLM asks Bedrock for it past httpx and boto3, where it cannot be "
        "counted; on_unmetered = 'allow' lets it pass."
    )
    told: Exception = import_module("litellm.exceptions").BadRequestError(
        message=str(error), model=str(model), llm_provider=_BEDROCK
    )
    told.__cause__ = error
    return told
