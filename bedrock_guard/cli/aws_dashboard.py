"""
A CloudWatch dashboard and alarms over the metrics that a guard's EMF sink emits, for CloudFormation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from bedrock_guard.domain.metric_names import (
    BUDGET_USED_SHARE,
    CACHE_HIT_SHARE,
    COST_USD,
    DIMENSION_BUDGET,
    DIMENSION_SERVICE,
    NAMESPACE,
    REFUSED_CALLS,
)

_PERIOD_S: Final = 300
_TOPIC: Final = {"Ref": "Topic"}


def dashboard(
    *, service: str, budgets: Sequence[str], share: Decimal, cache_hit_share: Decimal
) -> dict[str, Any]:
    """
    A template: what *service* spends, refuses and reads from caches, and how much of *budgets* is used.

    Alarms go to a topic: *share* of a budget used, a refusal, less than *cache_hit_share* of the input
    read from caches for half an hour.
    """
    of_service = {DIMENSION_SERVICE: service}
    used = {
        _logical("Used", name, number): _alarm(
            f"{share:%} of the budget {name} are used.",
            BUDGET_USED_SHARE,
            {**of_service, DIMENSION_BUDGET: name},
            Statistic="Maximum",
            Threshold=float(share),
            ComparisonOperator="GreaterThanOrEqualToThreshold",
        )
        for number, name in enumerate(budgets, 1)
    }
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"What bedrock_guard tells of {service}: a dashboard, and alarms.",
        "Resources": {
            "Topic": {"Type": "AWS::SNS::Topic"},
            "Dashboard": {
                "Type": "AWS::CloudWatch::Dashboard",
                "Properties": {"DashboardBody": {"Fn::Sub": json.dumps(_body(service, budgets, share))}},
            },
            **used,
            "Refused": _alarm(
                "Calls were refused.",
                REFUSED_CALLS,
                of_service,
                Statistic="Sum",
                Threshold=1,
                ComparisonOperator="GreaterThanOrEqualToThreshold",
            ),
            "CacheHits": _alarm(
                f"Less than {cache_hit_share:%} of the input was read from caches for half an hour.",
                CACHE_HIT_SHARE,
                of_service,
                Statistic="Average",
                Threshold=float(cache_hit_share),
                ComparisonOperator="LessThanThreshold",
                EvaluationPeriods=6,
            ),
        },
        "Outputs": {"TopicArn": {"Value": _TOPIC}},
    }


def _alarm(description: str, metric: str, dimensions: dict[str, str], **properties: Any) -> dict[str, Any]:
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmDescription": description,
            "Namespace": NAMESPACE,
            "MetricName": metric,
            "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
            "Period": _PERIOD_S,
            "EvaluationPeriods": 1,
            "TreatMissingData": "notBreaching",
            "AlarmActions": [_TOPIC],
            **properties,
        },
    }


def _body(service: str, budgets: Sequence[str], share: Decimal) -> dict[str, Any]:
    """
    Four graphs; `${AWS::Region}` in them is CloudFormation's to fill in.
    """
    of_service = [DIMENSION_SERVICE, service]
    used = [[NAMESPACE, BUDGET_USED_SHARE, *of_service, DIMENSION_BUDGET, name] for name in budgets]
    threshold = {"annotations": {"horizontal": [{"label": "alarm", "value": float(share)}]}}
    graphs = [
        ("Share of each budget that is used", used, "Maximum", threshold),
        ("USD", [[NAMESPACE, COST_USD, *of_service]], "Sum", {}),
        ("Refused calls", [[NAMESPACE, REFUSED_CALLS, *of_service]], "Sum", {}),
        ("Share of input read from caches", [[NAMESPACE, CACHE_HIT_SHARE, *of_service]], "Average", {}),
    ]
    return {
        "widgets": [
            {
                "type": "metric",
                "x": 12 * (number % 2),
                "y": 6 * (number // 2),
                "width": 12,
                "height": 6,
                "properties": {
                    "title": title,
                    "metrics": metrics,
                    "stat": stat,
                    "period": _PERIOD_S,
                    "region": "${AWS::Region}",
                    "view": "timeSeries",
                    "yAxis": {"left": {"min": 0}},
                    **more,
                },
            }
            for number, (title, metrics, stat, more) in enumerate(graphs)
            if metrics
        ]
    }


def _logical(prefix: str, name: str, number: int) -> str:
    """
    A logical id: letters and digits only, and each another.
    """
    return f"{prefix}{number}{re.sub('[^A-Za-z0-9]', '', name)}"
