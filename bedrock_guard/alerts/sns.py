"""
Alerts to an SNS topic: text for e-mail and phones, JSON for everything else.
"""

from __future__ import annotations

import json
from typing import Any, Final

from bedrock_guard.alerts.clients import check_texts, make_client
from bedrock_guard.domain.alert import Alert
from bedrock_guard.errors import ConfigurationError

# https://docs.aws.amazon.com/sns/latest/api/API_Publish.html: ASCII, no control characters, less than 100.
_LONGEST_SUBJECT: Final = 99


class SNSSink:
    """
    Publishes, with `kind` and `budget` as message attributes, for filter policies. Needs `sns:Publish`.

    A FIFO topic is told the alert's id as its deduplication id, and the budget as its group.
    """

    def __init__(self, *, topic_arn: str, endpoint_url: str | None = None) -> None:
        check_texts("sns", topic_arn=topic_arn, endpoint_url=endpoint_url)
        parts = topic_arn.split(":")
        if len(parts) != 6 or parts[2] != "sns" or not all(parts):
            raise ConfigurationError(
                f"Sink 'sns': topic_arn is {topic_arn!r}; it reads arn:aws:sns:REGION:ACCOUNT:NAME."
            )
        self._topic_arn = topic_arn
        self._region = parts[3]
        self._endpoint_url = endpoint_url
        self._client: Any = None

    def send(self, alert: Alert) -> None:
        """
        Publish it.
        """
        if self._client is None:
            self._client = make_client("sns", region=self._region, endpoint_url=self._endpoint_url)
        message = {"default": alert.to_json(), "email": alert.text, "sms": alert.text}
        attributes = {"kind": alert.kind, **({"budget": alert.budget} if alert.budget else {})}
        fifo = {"MessageDeduplicationId": alert.id, "MessageGroupId": alert.budget or alert.kind}
        self._client.publish(
            TopicArn=self._topic_arn,
            Subject=_subject(alert),
            Message=json.dumps(message),
            MessageStructure="json",
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
            },
            **(
                {name: value.replace(" ", "_") for name, value in fifo.items()}
                if self._topic_arn.endswith(".fifo")
                else {}
            ),
        )


def _subject(alert: Alert) -> str:
    share = f" {100 * alert.threshold:g}%" if alert.threshold is not None else ""
    return f"Bedrock budget {alert.budget or ''}: {alert.kind}{share}".replace(" :", ":")[:_LONGEST_SUBJECT]
