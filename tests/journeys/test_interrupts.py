"""
Programs that leave half-way: Ctrl-C while a reply is read, and a child that leaves its parent's call.

Whoever interrupts a reply leaves it; it is not lost. With `on_lost_reply = "release"` a lost one is
free, one that is left is paid for all the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from urllib3.response import HTTPResponse

from bedrock_guard.testing.bedrock_server import missing_usage_headers

from .conftest import HELLO, Guarded, eventually
from .fault_cells import INVOKE, OPERATIONS, read_all, send

WAYS: dict[str, dict[str, Any]] = {
    "as ever": {},
    "lost ones are free": {"on_lost_reply": "release"},
    "lost ones are free, left ones are read on": {
        "on_lost_reply": "release",
        "on_abandoned_stream": "drain",
    },
}


def interrupted(read: Callable[..., Any]) -> Callable[..., Any]:
    """
    *read*, which Ctrl-C meets when a piece has come.
    """

    def read_a_piece(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        yield next(iter(read(*args, **kwargs)))
        raise KeyboardInterrupt

    return read_a_piece


def interrupt(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "Converse"])
def test_who_interrupts_a_reply_pays_the_estimate(
    make_guarded: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch, operation: str, way: str
) -> None:
    """
    Nobody knows what was lost of it on the way, so that it is not read on either.
    """
    guarded = make_guarded(**WAYS[way])
    guarded.server.always(missing_usage_headers())
    with monkeypatch.context() as patch:
        patch.setattr(HTTPResponse, "stream", interrupted(HTTPResponse.stream))
        part = send(guarded.client, operation)
        patch.setattr(HTTPResponse, "read", interrupt)
        with pytest.raises(KeyboardInterrupt):
            read_all(part)
    del part

    assert eventually(lambda: guarded.pending == [0])
    assert (guarded.entry.outcome, guarded.entry.basis) == ("abandoned", "estimated")
    assert guarded.entry.cost_nanousd == guarded.entry.estimated_cost_nanousd


@pytest.mark.parametrize("way", WAYS)
def test_who_interrupts_while_an_event_is_parsed_pays_the_estimate(
    make_guarded: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """
    Wherever in botocore it comes.
    """
    guarded = make_guarded(**WAYS[way])
    stream = guarded.client.converse_stream(**HELLO)["stream"]
    monkeypatch.setattr(stream._parser, "parse", interrupt)

    with pytest.raises(KeyboardInterrupt):
        next(iter(stream))

    assert guarded.entry.outcome == "abandoned"
    assert guarded.entry.cost_nanousd == guarded.entry.estimated_cost_nanousd


@pytest.mark.parametrize("read", ["read", "readline", "readlines"])
def test_who_interrupts_a_body_pays_the_estimate(
    make_guarded: Callable[..., Guarded], monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    """
    However it is read.
    """
    guarded = make_guarded(on_lost_reply="release")
    guarded.server.always(missing_usage_headers())
    body = guarded.client.invoke_model(**INVOKE)["body"]
    with monkeypatch.context() as patch:
        patch.setattr(HTTPResponse, "read", interrupt)
        patch.setattr(HTTPResponse, "readline", interrupt)
        with pytest.raises(KeyboardInterrupt):
            getattr(body._raw_stream, read)()

    assert guarded.entry.outcome == "abandoned"
    assert guarded.entry.cost_nanousd == guarded.entry.estimated_cost_nanousd


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize("event", ["before-sign", "response-received"])
@pytest.mark.parametrize("ledger", ["memory", "sqlite"])
def test_a_child_that_leaves_from_inside_a_call_does_not_end_it(
    make_guarded: Callable[..., Guarded], tmp_path: Any, event: str, ledger: str
) -> None:
    """
    It comes by our net on its way out, but the call is its parent's.
    """
    url = "memory://" if ledger == "memory" else f"sqlite:///{(tmp_path / 'ledger.db').as_posix()}"
    guarded = make_guarded(ledger=url)

    def fork(**_: Any) -> None:
        child = os.fork()
        if not child:
            raise SystemExit
        os.waitpid(child, 0)

    guarded.client.meta.events.register(f"{event}.bedrock-runtime.Converse", fork)
    try:
        guarded.client.converse(**HELLO)
    except SystemExit:  # pragma: no cover - in the child
        os._exit(0)

    assert len(list(guarded.guard.entries())) == 1
    assert (guarded.entry.outcome, guarded.entry.basis) == ("answered", "reported")
    assert guarded.spent_nanousd == guarded.server.bill.nanousd
    assert guarded.pending == [0]
