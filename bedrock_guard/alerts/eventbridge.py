"""
Alerts as events on an EventBridge bus.
"""

from __future__ import annotations

from typing import Any, Final

from bedrock_guard.alerts.clients import check_texts, find_region, make_client
from bedrock_guard.domain.alert import Alert

SOURCE: Final = "bedrock_guard"
DETAIL_TYPE: Final = "Bedrock Budget Alert"


class EventBridgeSink:
    """
    Puts an event whose detail is the alert's JSON. Needs `events:PutEvents`.
    """

    def __init__(
        self, *, bus: str = "default", region: str | None = None, endpoint_url: str | None = None
    ) -> None:
        check_texts("eventbridge", bus=bus, region=region, endpoint_url=endpoint_url)
        self._bus = bus
        self._region = find_region("eventbridge", region)
        self._endpoint_url = endpoint_url
        self._client: Any = None

    def send(self, alert: Alert) -> None:
        """
        Put it; one that the bus does not take is a failure, though the request is answered.
        """
        if self._client is None:
            self._client = make_client("events", region=self._region, endpoint_url=self._endpoint_url)
        event = {
            "EventBusName": self._bus,
            "Source": SOURCE,
            "DetailType": DETAIL_TYPE,
            "Detail": alert.to_json(),
            "Time": alert.at,
        }
        answer = self._client.put_events(Entries=[event])
        if answer["FailedEntryCount"]:
            failed = answer["Entries"][0]
            raise OSError(f"{failed.get('ErrorCode')}: {failed.get('ErrorMessage')}")
