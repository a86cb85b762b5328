"""
Tags that travel with a call, so that Bedrock's invocation logs carry them.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore_versions import needs_newer_model

from bedrock_guard import Budget, Guard, scope, unguard
from bedrock_guard.errors import ConfigurationError
from bedrock_guard.operations.request_metadata import Merged, merge_map, merge_text
from bedrock_guard.testing.bedrock_server import BedrockServer

MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
HELLO: dict[str, Any] = {
    "modelId": MODEL,
    "messages": [{"role": "user", "content": [{"text": "hello"}]}],
    "inferenceConfig": {"maxTokens": 100},
}
BODY = json.dumps(
    {"anthropic_version": "x", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
)
HEADER = "x-amzn-bedrock-request-metadata"
CHARACTERS = "only 256 letters, digits, spaces and : _ @ $ # = / + , - . are taken"


@pytest.fixture
def server() -> Iterator[BedrockServer]:
    with BedrockServer() as running:
        yield running


@pytest.fixture
def make_client(server: BedrockServer) -> Callable[..., Any]:
    def make(**settings: Any) -> Any:
        guard = Guard(**{"budget": "5 USD", "ledger": "memory://", **settings})
        return guard.attach(boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=server.url))

    return make


def sent(server: BedrockServer) -> Any:
    """
    The metadata of the last request, as it arrived.
    """
    received = server.requests[-1]
    if HEADER in received.headers:
        return json.loads(received.headers[HEADER])
    return json.loads(received.body).get("requestMetadata")


def invoke(client: Any, **more: Any) -> None:
    client.invoke_model(modelId=MODEL, body=BODY, **more)["body"].read()


CALLS: dict[str, Callable[..., Any]] = {
    "converse": lambda client, **more: client.converse(**HELLO, **more),
    "converse_stream": lambda client, **more: list(client.converse_stream(**HELLO, **more)["stream"]),
    "invoke_model": invoke,
    "invoke_model_with_response_stream": lambda client, **more: list(
        client.invoke_model_with_response_stream(modelId=MODEL, body=BODY, **more)["body"]
    ),
}


@needs_newer_model
@pytest.mark.parametrize("call", CALLS)
def test_tags_are_sent_along(call: str, server: BedrockServer, make_client: Callable[..., Any]) -> None:
    """
    AWS's own logs then tell whose call it was, by the names that the budgets go by.
    """
    client = make_client(tags={"service": "search"}, tags_to_aws=True)
    if not knows_metadata(client, call):
        pytest.skip("this botocore has no requestMetadata of it")
    with scope(user="ann"):
        CALLS[call](client)

    assert sent(server) == {"service": "search", "user": "ann"}
    entry = next(Guard.of(client).entries())  # type: ignore[union-attr]
    assert entry.outcome == "answered"
    assert (entry.tags["user"], entry.tags["service"]) == ("ann", "search")


def knows_metadata(client: Any, call: str) -> bool:
    name = client.meta.method_to_api_mapping[call]
    return "requestMetadata" in client.meta.service_model.operation_model(name).input_shape.members


@needs_newer_model
@pytest.mark.parametrize(
    ("setting", "arrives"),
    [(False, None), (("user",), {"user": "ann"}), (["user", "absent"], {"user": "ann"}), ([], None)],
)
def test_only_what_is_asked_for_is_sent(
    setting: Any, arrives: object, server: BedrockServer, make_client: Callable[..., Any]
) -> None:
    """
    Names of people are not everybody's to log.
    """
    client = make_client(tags={"service": "search"}, tags_to_aws=setting)
    with scope(user="ann"):
        client.converse(**HELLO)

    assert sent(server) == arrives


def test_a_shadow_alters_no_request(server: BedrockServer, make_client: Callable[..., Any]) -> None:
    """
    Whoever tries a guard out must find what is sent as it was.
    """
    client = make_client(tags={"service": "search"}, tags_to_aws=True, mode="shadow")

    client.converse(**HELLO)

    assert sent(server) is None


@needs_newer_model
def test_the_callers_own_pairs_win_and_its_dictionaries_stay_as_they_were(
    server: BedrockServer, make_client: Callable[..., Any]
) -> None:
    """
    Programs use the same dictionary for many calls.
    """
    client = make_client(tags={"service": "search"}, tags_to_aws=True)
    asked = {**HELLO, "requestMetadata": {"service": "mine", "trace": "7"}}
    before = copy.deepcopy(asked)
    with scope(user="ann"):
        client.converse(**asked)
        assert sent(server) == {"service": "mine", "trace": "7", "user": "ann"}
        client._make_api_call("Converse", asked)

    assert asked == before
    with scope(user="bob"):
        client.converse(**asked)
    assert sent(server) == {"service": "mine", "trace": "7", "user": "bob"}


@needs_newer_model
def test_what_the_budgets_go_by_is_the_programs_word(make_client: Callable[..., Any]) -> None:
    """
    What is sent may be the caller's own; what is counted must not be.
    """
    client = make_client(budget=None, budgets=[Budget("user", "5 USD", per="user")], tags_to_aws=True)
    with scope(user="ann"):
        client.converse(**HELLO, requestMetadata={"user": "eve"})

    assert [row.per for row in Guard.of(client).status()] == [(("user", "ann"),)]  # type: ignore[union-attr]


@needs_newer_model
def test_what_does_not_fit_is_left_out_and_told_once_without_its_value(
    server: BedrockServer, make_client: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """
    A tag that Bedrock would refuse must not cost the call.
    """
    client = make_client(tags_to_aws=True)
    for _ in range(2):
        with scope(user="ännchen", team="search"):
            client.converse(**HELLO)

    assert sent(server) == {"team": "search"}
    told = [record.getMessage() for record in caplog.records if "left out" in record.message]
    assert told == [f"The tag 'user' is left out of what Bedrock is sent, now and later: {CHARACTERS}."]


def test_a_botocore_that_cannot_send_them_says_so_once(
    server: BedrockServer,
    make_client: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    An older one refuses parameters that it does not know.
    """
    client = make_client(tags={"service": "search"}, tags_to_aws=True)
    shape = client.meta.service_model.operation_model("Converse").input_shape
    monkeypatch.delitem(shape.members, "requestMetadata", raising=False)
    for _ in range(2):
        client.converse(**HELLO)

    assert sent(server) is None
    told = [record.getMessage() for record in caplog.records if "requestMetadata" in record.message]
    assert told == ["This botocore has no requestMetadata of Converse: no tags are sent."]


@needs_newer_model
def test_free_operations_and_unguarded_clients_are_left_alone(
    server: BedrockServer, make_client: Callable[..., Any]
) -> None:
    """
    What no budget counts carries no tags of ours.
    """
    client = make_client(tags={"service": "search"}, tags_to_aws=True)
    client.count_tokens(modelId=MODEL, input={"converse": {"messages": HELLO["messages"]}})
    assert sent(server) is None
    unguard(client).converse(**HELLO)

    assert sent(server) is None


@needs_newer_model
def test_of_several_guards_each_sends_its_own(server: BedrockServer, make_client: Callable[..., Any]) -> None:
    """
    A program under `run` has two.
    """
    client = make_client(tags={"service": "search"}, tags_to_aws=("service",))
    with Guard(budget="b: 1 USD", ledger="memory://", tags={"run": "7"}, tags_to_aws=True) as other:
        other.attach(client).converse(**HELLO)

        assert sent(server) == {"service": "search", "run": "7"}


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ("user", "tags_to_aws: Input should be a valid boolean or a valid list, and not 'user'"),
        (["user", ""], "it names tags"),
        (["model"], "'model', a built-in tag; Bedrock's logs tell it already"),
        (5, "tags_to_aws"),
    ],
)
def test_what_names_no_tags_is_refused(names: Any, says: str) -> None:
    """
    A tag that is never sent would be missed a month later.
    """
    with pytest.raises(ConfigurationError, match=says.replace("[", r"\[")):
        Guard(budget="5 USD", ledger="memory://", tags_to_aws=names)


MANY = {f"t{number}": "v" for number in range(20)}


@pytest.mark.parametrize(
    ("own", "tags", "merged"),
    [
        (None, {"a": "1"}, Merged({"a": "1"}, {})),
        (None, {}, Merged(None, {})),
        ({"a": "0"}, {"a": "1"}, Merged(None, {})),
        ({"b": "0"}, {"a": "1"}, Merged({"b": "0", "a": "1"}, {})),
        ("no mapping", {"a": "1"}, Merged(None, {})),
        (None, {"a": "x" * 256, "b": "x" * 257}, Merged({"a": "x" * 256}, {"b": CHARACTERS})),
        (
            None,
            {"a": "tab\tnew\nline", "b": "semi;colon"},
            Merged({"a": "tab\tnew\nline"}, {"b": CHARACTERS}),
        ),
        (None, {"a": "thin\u2009space", "": "x"}, Merged(None, {"a": CHARACTERS, "": CHARACTERS})),
        (None, {"a": "x:_@$#=/+,-.Z9"}, Merged({"a": "x:_@$#=/+,-.Z9"}, {})),
        (
            None,
            MANY,
            Merged(
                dict(list(MANY.items())[:16]),
                {f"t{number}": "there is room for 16" for number in range(16, 20)},
            ),
        ),
        (MANY, {"a": "1"}, Merged(None, {"a": "there is room for 16"})),
    ],
)
def test_a_mapping_takes_what_fits(own: object, tags: dict[str, str], merged: Merged) -> None:
    """
    The service's pattern and number; nothing is cut.
    """
    assert merge_map(own, tags) == merged


@pytest.mark.parametrize("own", ["{", "[]", "5", "[" * 100_000, 5, b"{}"])
def test_a_text_that_is_no_object_is_the_callers_mistake(own: object) -> None:
    """
    Bedrock tells it, as it would without us.
    """
    assert merge_text(own, {"a": "1"}) == Merged(None, {})


def test_a_text_takes_what_fits_in_its_bytes() -> None:
    """
    As a header it has an end of its own.
    """
    own = {f"own{number}": "x" * 256 for number in range(12)}
    wide = {f"{name}{'t' * 255}": "\n" * 256 for name in "abcde"}  # two bytes each, in JSON
    too_many = "there is room for 8500 bytes"

    merged = merge_text(json.dumps(own), wide)

    # 12 pairs of 270 or 271 bytes, and each of ours is 776: six of them would fit, were it not for the number.
    assert json.loads(merged.metadata) == {**own, **dict(list(wide.items())[:4])}
    assert merged.left_out == {f"e{'t' * 255}": "there is room for 16"}
    fewer = merge_text(json.dumps({f"{n}": "x" * 1000 for n in range(6)}), wide)
    assert list(json.loads(fewer.metadata)) == [*"012345", *list(wide)[:3]]
    assert fewer.left_out == dict.fromkeys(list(wide)[3:], too_many)
    assert merge_text(None, {"a": "1"}) == Merged('{"a": "1"}', {})
    assert merge_text('{"a": "0"}', {"a": "1"}) == Merged(None, {})
    assert merge_text(json.dumps({"own": "x" * 8_490}), {"a": "1"}) == Merged(None, {"a": too_many})
