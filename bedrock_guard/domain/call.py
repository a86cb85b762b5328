"""
A call, before it is sent: which model, and how large its request is.

No text of the request is kept: sizes only. What is made anew for every call is a
named tuple, several times as quick to make as a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from bedrock_guard.domain.usage import NOTHING, Usage, UsageReport

ModelKind: TypeAlias = Literal[
    "foundation-model",
    "inference-profile",
    "application-inference-profile",
    "provisioned-model",
    "custom-model",
    "custom-model-deployment",
    "imported-model",
    "prompt",
    "prompt-router",
    "endpoint",
    "guardrail",
    "agent",
    "flow",
    "knowledge-base",
    "operation",
    "unknown",
]

ROUTER: Final = "prompt-router"


class ModelRef(NamedTuple):
    """
    A `modelId`, taken apart.

    Attributes:
        model_id: As it was given.
        kind: What it names; the last part of AWS's ARN types. An `"operation"` is billed by its name.
        model: The base model id that prices and limits go by, such as
            `"anthropic.claude-opus-4-6-v1"`; None where the id does not tell (opaque ARNs).
        maker: The part before the dot, `"anthropic"`; None where the id does not tell.
        geography: `"global"`, a geo prefix such as `"us"` or `"apac"`, or `"in-region"`.
        region: The region an ARN names, or None.
    """

    model_id: str
    kind: ModelKind
    model: str | None = None
    maker: str | None = None
    geography: str = "in-region"
    region: str | None = None


@dataclass(frozen=True, slots=True)
class ModelLimits:
    """
    What a model takes and gives at most, in tokens; None where it is not known.
    """

    max_input_tokens: int | None = None
    max_output_tokens: int | None = None


class RequestSize(NamedTuple):
    """
    How large a request is, as far as that can be seen for free. Most have nothing to tell but the first six.

    Attributes:
        text_bytes: Of all text that the model will read, tool schemas included:
            the larger of its UTF-8 and its NFKC-normalised UTF-8 length.
        messages: How many messages or blocks, for the template around each.
        image_tokens: The most tokens one image can be, for this family.
        has_tools: Whether a tool is defined: a system prompt of the maker's comes with it.
        output_limit: The largest of all spellings of the limit on output tokens; None when unset.
        writes_cache: The longest life of a cache entry that the request marks:
            None, `"5m"` or `"1h"`.
        images: How many images.
        has_unseen: Whether part of the input cannot be measured here (video, PDF,
            S3 locations, prompt ARNs): the model's context window is the bound then.
        candidates: How many answers are asked for.
        generates: False for embeddings, which have no output tokens.
        max_input_tokens: The larger context window that the request opens (a beta of
            Anthropic's), or None.
        has_guardrail: Whether a guardrail looks on: its units are billed too, and only
            bodies tell them.
        beside_tokens: What else it is billed for, at most, by meter: images, seconds, queries.
        beside_is_exact: Whether AWS bills no less of that.
        reads_tokens: False where nothing of its input is billed by the token.
        sized_images: How many of its images say their size.
        sized_image_tokens: The most tokens that those can be together.
        counted_tokens: The input as Bedrock's CountTokens has counted it; None where it was not asked.
        may_search: Whether a tool is offered that searches the web, for a fee each time.
    """

    text_bytes: int = 0
    messages: int = 1
    image_tokens: int = 5_000
    has_tools: bool = False
    output_limit: int | None = None
    writes_cache: Literal["5m", "1h"] | None = None
    images: int = 0
    has_unseen: bool = False
    candidates: int = 1
    generates: bool = True
    max_input_tokens: int | None = None
    has_guardrail: bool = False
    beside_tokens: Usage = NOTHING
    beside_is_exact: bool = True
    reads_tokens: bool = True
    sized_images: int = 0
    sized_image_tokens: int = 0
    counted_tokens: int | None = None
    may_search: bool = False

    def with_sizes(self, tokens: Sequence[int]) -> RequestSize:
        """
        This, of which some images say by their size how many *tokens* they are at most.
        """
        most = sum(min(each, self.image_tokens) for each in tokens)
        return self._replace(sized_images=len(tokens), sized_image_tokens=most)


class BatchInput(NamedTuple):
    """
    Where the records of a batch are, and what is known of them.

    Attributes:
        uri: The file, or the folder of several, in S3.
        invocation: Whose requests the records hold: `"InvokeModel"` or `"Converse"`.
        hours: After how many AWS gives the job up.
        is_read: Whether the call's size is what its records come to; else nothing is known of them.
        records: How many there are.
        largest_input_tokens: The most that one of them can send: price bands go by a record, not by the sum.
        files: Each file that was read, with its ETag, and its version where it has one.
        problem: Why they could not be read; empty where nobody tried.
    """

    uri: str
    invocation: str = "InvokeModel"
    hours: int = 24
    is_read: bool = False
    records: int = 0
    largest_input_tokens: int = 0
    files: tuple[str, ...] = ()
    problem: str = ""


class Call(NamedTuple):
    """
    One client method invocation, botocore's retries included. Most have nothing to tell but the first seven.

    Attributes:
        operation: As AWS names it: `"Converse"`.
        model: The model it asks for.
        family: Whose dialect the model speaks: `"anthropic"`, `"nova"`, …
        region: The region it is sent to; prices go by it.
        service_tier, latency: As asked for.
        size: How large the request is.
        request_tags: The call's own `requestMetadata`.
        routes: For a prompt router, the call as each of its models would take it; else empty.
        principal: The ARN that its client's credentials are of; empty where nobody asked, or could tell.
        flat_key: `"service:Operation"` where a flat price of that name holds; else empty.
        has_bound: Whether the request tells what it can use; without that only a flat price does.
        is_silent: Whether no reply states what it used: the estimate is charged.
        is_traced: Whether the events of its stream tell what it uses, as it does.
        times: How many calls of its model it makes at most.
        spent: What other models use for it beside that, by model; of an agent under way, all so far.
        batch: Of a job, where its records are; else None.
    """

    operation: str
    model: ModelRef
    family: str
    region: str
    size: RequestSize
    service_tier: str = "default"
    latency: str = "standard"
    request_tags: Mapping[str, str] = MappingProxyType({})
    routes: tuple[Call, ...] = ()
    principal: str = ""
    flat_key: str = ""
    has_bound: bool = True
    is_silent: bool = False
    is_traced: bool = False
    times: int = 1
    spent: UsageReport | None = None
    batch: BatchInput | None = None

    def by(self, principal: str) -> Call:
        """
        This call, as one of *principal*.
        """
        return self._replace(
            principal=principal, routes=tuple([each._replace(principal=principal) for each in self.routes])
        )

    def limited(self, tokens: int) -> Call:
        """
        This call, with *tokens* as the limit of each answer.
        """
        return self._replace(
            size=self.size._replace(output_limit=tokens),
            routes=tuple([each.limited(tokens) for each in self.routes]),
        )

    def counted(self, tokens: int) -> Call:
        """
        This call, with an input of *tokens*.
        """
        return self._replace(
            size=self.size._replace(counted_tokens=tokens),
            routes=tuple([each.counted(tokens) for each in self.routes]),
        )

    @property
    def is_routed(self) -> bool:
        """
        Whether a prompt router chooses the model, for a fee.
        """
        return self.model.kind == ROUTER


# Every call makes one of each, and `Call()` takes several times as long.
new_size: Final[Callable[[type[RequestSize], tuple[Any, ...]], RequestSize]] = tuple.__new__
new_call: Final[Callable[[type[Call], tuple[Any, ...]], Call]] = tuple.__new__
# How most requests end, and most calls: what is compared as a whole need not be looked at one by one.
USUAL_SIZE: Final = RequestSize()[6:]
USUAL_CALL: Final = Call("", ModelRef("", "unknown"), "", "", RequestSize())[7:]
