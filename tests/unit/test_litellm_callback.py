"""
The callback of LiteLLM's proxy, without LiteLLM: `tests/frameworks` has the proxy itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bedrock_guard import Guard, litellm
from bedrock_guard.context import current_scope, scope, stay_tagged
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.hooks import litellm as hook

MODULE = "litellm.integrations.custom_logger"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """
    As much of LiteLLM as the callback is made of.
    """
    module = ModuleType(MODULE)
    module.CustomLogger = type("CustomLogger", (), {})  # type: ignore[attr-defined]
    for name in ("litellm", "litellm.integrations"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, MODULE, module)
    hook._callback_class.cache_clear()
    litellm._guard_callback.cache_clear()
    yield
    hook._callback_class.cache_clear()
    litellm._guard_callback.cache_clear()


def caller(**fields: Any) -> SimpleNamespace:
    names = ("key_alias", "token", "team_alias", "team_id", "user_id", "organization_alias", "org_id")
    return SimpleNamespace(**{**dict.fromkeys((*names, "end_user_id")), **fields})


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ({}, {}),
        ({"token": "88dc", "user_id": "alice"}, {"key": "88dc", "key_id": "88dc", "user": "alice"}),
        (
            {"key_alias": "ci", "token": "88dc", "team_alias": "search", "team_id": "t-1"},
            {"key": "ci", "key_id": "88dc", "team": "search", "team_id": "t-1"},
        ),
        ({"org_id": "o-1", "end_user_id": 7}, {"org": "o-1", "end_user": "7"}),
        ({"organization_alias": "acme", "org_id": "o-1", "user_id": ""}, {"org": "acme"}),
    ],
)
def test_who_asks_is_told_by_name_and_by_id(fields: dict[str, Any], tags: dict[str, str]) -> None:
    """
    A name is what a budget reads well with; an id is what nobody can change.
    """
    assert hook.read_tags(caller(**fields), {}) == tags


@pytest.mark.parametrize("key", ["metadata", "litellm_metadata"])
def test_a_request_s_own_tags_cannot_say_who_asks(key: str) -> None:
    """
    They are the client's word, for what only the client knows.
    """
    said = ["feature:search", "team:rich", "model:free", "plain", "empty:", ":nameless", 7]

    assert hook.read_tags(caller(team_id="poor"), {key: {"tags": said}}) == {
        "feature": "search",
        "team": "poor",
        "team_id": "poor",
    }


def test_a_request_cannot_say_otherwise_what_its_operator_has_said() -> None:
    """
    LiteLLM lists all in one; a budget for `feature` or `env` is to hold for whoever is under it.
    """
    asks = caller(
        team_metadata={"tags": ["feature:ads", "stage:beta", "team:rich"]},
        metadata={"tags": ["feature:search"]},
    )
    listed = ["feature:ads", "feature:search", "feature:free", "env:dev", "colour:red"]

    assert hook.read_tags(asks, {"metadata": {"tags": listed}}, settled=["env"]) == {
        "feature": "search",
        "stage": "beta",
        "colour": "red",
    }


def test_the_callback_keeps_to_the_tags_of_the_settings(installed: None) -> None:
    """
    Each call has them, whatever the request says.
    """
    callback = hook.make_callback({"env": "prod"})
    said = {"metadata": {"tags": ["env:dev", "feature:search"]}}

    async def serve() -> dict[str, str]:
        await callback.async_pre_call_hook(user_api_key_dict=caller(), data=said)
        return dict(current_scope().tags)

    assert asyncio.run(serve()) == {"feature": "search"}


def test_what_a_client_says_is_not_kept_without_end() -> None:
    """
    It is written with every call, also with those that are refused and cost nobody anything.
    """
    said = [f"{'n' * 129}:long", *(f"n{each}:{'v' * 10_000}" for each in range(1000))]

    tags = hook.read_tags(caller(end_user_id="u" * 600_000), {"metadata": {"tags": said}})

    assert tags == {**{f"n{each}": "v" * 256 for each in range(50)}, "end_user": "u" * 256}


@pytest.mark.parametrize("data", [None, {"metadata": None}, {"metadata": {"tags": "a:b"}}, {"metadata": []}])
def test_odd_metadata_says_nothing(data: Any) -> None:
    """
    Any client may send it.
    """
    assert hook.read_tags(caller(user_id="alice"), data) == {"user": "alice"}


def test_tags_hold_for_the_rest_of_a_task_and_for_no_other(installed: None) -> None:
    """
    The proxy serves each request in a task; its retries and fallbacks are tasks that it starts.
    """
    callback = hook.make_callback()

    async def serve(user: str) -> list[dict[str, str]]:
        asked = {
            "user_api_key_dict": caller(user_id=user),
            "data": {},
            "cache": None,
            "call_type": "acompletion",
        }
        await callback.async_pre_call_hook(**asked)
        await asyncio.sleep(0)

        async def call() -> dict[str, str]:
            return dict(current_scope().tags)

        return list(await asyncio.gather(call(), asyncio.create_task(call())))

    async def both() -> list[list[dict[str, str]]]:
        return list(await asyncio.gather(serve("alice"), serve("bob")))

    assert asyncio.run(both()) == [[{"user": "alice"}] * 2, [{"user": "bob"}] * 2]
    assert current_scope().tags == {}


def test_a_task_s_tags_are_those_around_it_too() -> None:
    """
    And its calls count towards the same tallies.
    """

    async def serve() -> None:
        stay_tagged({"user": "alice"})
        assert current_scope().tags == {"app": "chat", "user": "alice"}

    with scope(app="chat"):
        asyncio.run(serve())


def test_without_litellm_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Before anything is put round the process.
    """
    monkeypatch.setitem(sys.modules, MODULE, None)  # type: ignore[arg-type]
    hook._callback_class.cache_clear()

    with (
        Guard(budgets=[], ledger="memory://", settings={}) as guard,
        pytest.raises(ConfigurationError, match=r"pip install 'litellm\[proxy\]'"),
    ):
        litellm.guard_proxy(guard)


def test_the_callback_is_made_once_of_the_settings(
    installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    LiteLLM looks it up by name, and again when it reads its file again: one guard must not hold twice.
    """
    put = []
    monkeypatch.setattr(litellm, "guard_transports", lambda guard, **how: put.append((guard, how)))
    monkeypatch.setattr(litellm, "close_native_ways", lambda guard: put.append((guard, "native")))
    monkeypatch.setattr(litellm, "guard_process", lambda *, guard: put.append((guard, "process")))
    monkeypatch.setattr(litellm.atexit, "register", lambda close: put.append((close, "exit")))
    settings = tmp_path / "guard.toml"
    settings.write_text('ledger = "memory://"\n[budgets.all]\nlimit = "5 USD"\n')
    monkeypatch.setenv("BEDROCK_GUARD_CONFIG", str(settings))

    assert litellm.guard_callback is litellm.guard_callback
    guard = put[0][0]
    usual = {"region": None, "hosts": (), "refusals": "reply"}
    assert put == [(guard, usual), (guard, "native"), (guard, "process"), (guard.close, "exit")]
    assert [str(budget.name) for budget in guard.budgets] == ["all"]
    guard.close()


def test_a_proxy_s_requests_cannot_say_otherwise_what_its_settings_do(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The guard's own tags are those that are settled.
    """
    for name in ("guard_transports", "close_native_ways", "guard_process"):
        monkeypatch.setattr(litellm, name, lambda *_, **__: None)
    said = {"metadata": {"tags": ["env:dev", "feature:search"]}}

    async def serve(callback: Any) -> dict[str, str]:
        await callback.async_pre_call_hook(user_api_key_dict=caller(), data=said)
        return dict(current_scope().tags)

    with Guard(budgets=[], ledger="memory://", settings={}, tags={"env": "prod"}) as guard:
        assert asyncio.run(serve(litellm.guard_proxy(guard))) == {"feature": "search"}


def test_without_a_budget_the_proxy_does_not_start(
    installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """
    LiteLLM raises what the look-up does, and ends.
    """
    settings = tmp_path / "guard.toml"
    settings.write_text('ledger = "memory://"\n')
    monkeypatch.setenv("BEDROCK_GUARD_CONFIG", str(settings))

    with pytest.raises(ConfigurationError, match="budget"):
        _ = litellm.guard_callback


def test_it_has_no_other_names() -> None:
    """
    As any module says it.
    """
    with pytest.raises(AttributeError, match=r"module 'bedrock_guard\.litellm' has no attribute 'guard'"):
        litellm.guard  # noqa: B018
