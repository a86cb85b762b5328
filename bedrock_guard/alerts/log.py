"""
Alerts in the log: what is told where no other sink is named.
"""

from __future__ import annotations

import logging

from bedrock_guard.domain.alert import Alert

log = logging.getLogger("bedrock_guard.alerts")


class LogSink:
    """
    One line at warning, in the logger `bedrock_guard.alerts`; the record has the alert as `alert`, a dict.
    """

    def send(self, alert: Alert) -> None:
        """
        Write it.
        """
        log.warning("%s", alert.text, extra={"alert": alert.to_dict()})
