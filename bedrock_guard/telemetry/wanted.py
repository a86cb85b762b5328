"""
How telemetry is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bedrock_guard.errors import ConfigurationError

# Each multiplies what metrics cost.
_MOST_TAGS: Final = 10
# Tags may be long; what backends take of a value is not. CloudWatch takes no longer name of a dimension.
_MOST_CHARACTERS: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    What is told, and to whom.

    Attributes:
        tags: Tags whose values are told, too: attributes in OpenTelemetry, dimensions in CloudWatch. Each
            value makes metrics of its own.
        gen_ai: Whether metrics and attributes of spans by OpenTelemetry's conventions (`gen_ai.*`) are told,
            too, or left to another tool.
        service: The dimension `service` in CloudWatch.
        meter_provider: Of OpenTelemetry; None for the global one.

    Raises:
        ConfigurationError: One cannot be understood.
    """

    tags: tuple[str, ...] = ()
    gen_ai: bool = True
    service: str = "bedrock"
    meter_provider: Any = None

    def __post_init__(self) -> None:
        tags = self.tags
        is_list = isinstance(tags, list | tuple) and all(isinstance(tag, str) and tag for tag in tags)
        if not is_list or len(tags) > _MOST_TAGS:
            raise ConfigurationError(
                f"telemetry: tags is {tags!r}; it is a list of at most {_MOST_TAGS} names of tags."
            )
        object.__setattr__(self, "tags", tuple(tags))
        if not isinstance(self.gen_ai, bool):
            raise ConfigurationError(f"telemetry: gen_ai is {self.gen_ai!r}; it is true or false.")
        service = self.service
        is_text = isinstance(service, str) and service.isascii() and service.isprintable()
        if not is_text or not 0 < len(service.strip()) <= len(service) <= _MOST_CHARACTERS:
            raise ConfigurationError(f"telemetry: service is {service!r}; it is a word of printable ASCII.")
        provider = self.meter_provider
        if provider is not None and not callable(getattr(provider, "get_meter", None)):
            raise ConfigurationError(
                f"telemetry: meter_provider is {provider!r}; it is a MeterProvider of OpenTelemetry."
            )

    def tagged(self, tags: Mapping[str, str]) -> dict[str, str]:
        """
        What is told of a call's *tags*.
        """
        return {name: tags[name][:_MOST_CHARACTERS] for name in self.tags if name in tags}
