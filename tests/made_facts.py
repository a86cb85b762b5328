"""
Small files of facts about prices, for tests of what is generated from them.
"""

from __future__ import annotations

from typing import Any


def fact(base_id: str, usd: dict[str, Any], *, scope: str = "in-region", **more: Any) -> dict[str, Any]:
    sources = {key: ["litellm==1"] for key in usd}
    return {"base_id": base_id, "scope": scope, "sources": sources, "usd": usd, **more}


def facts(models: dict[str, dict[str, Any]] | None = None, **one: Any) -> dict[str, Any]:
    return {
        "_meta": {"generated": "2026-11-21", "sources": {"litellm==1": "a library"}},
        "models": models or {"acme.one": fact("acme.one", one)},
        "in_region_overrides": {},
        "extra_units": {"web-grounding": {"usd": {"per_request": "0.03"}, "sources": ["litellm==1"]}},
        "guardrails_per_text_unit": {"usd": {"wordPolicyUnits": "0"}, "source": "litellm==1"},
    }
