"""
A last line of defence in AWS itself, for CloudFormation: an AWS Budget that denies Bedrock to roles.

It knows what AWS bills, hours late, and so also what no guard has seen. It is no limit: it
ends what has gone on for hours.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

# Converse and ConverseStream are authorised as InvokeModel and InvokeModelWithResponseStream are:
# https://docs.aws.amazon.com/bedrock/latest/userguide/inference-prereq.html
DENIED: Final = (
    "bedrock:InvokeModel*",
    "bedrock:Converse*",
    "bedrock:InvokeAgent",
    "bedrock:InvokeInlineAgent",
    "bedrock:InvokeFlow",
    "bedrock:RetrieveAndGenerate*",
    "bedrock:CreateModelInvocationJob",
    # The OpenAI-shaped endpoint, which no guard sees, has a prefix of its own:
    # https://docs.aws.amazon.com/bedrock/latest/userguide/inference.html
    "bedrock-mantle:CreateInference",
)
# Our periods, as AWS Budgets names those on which actions are taken.
TIME_UNITS: Final = {"month": "MONTHLY", "quarter": "QUARTERLY", "year": "ANNUALLY"}

_TOPIC: Final = {"Ref": "Topic"}
_BUDGETS: Final = {"Service": "budgets.amazonaws.com"}
_OF_THIS_ACCOUNT: Final = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}


def backstop(
    *,
    usd: Decimal,
    period: str,
    services: Sequence[str],
    roles: Sequence[str],
    groups: Sequence[str],
    emails: Sequence[str],
) -> dict[str, Any]:
    """
    A template: at 80 % of *usd* it tells, at 100 % it denies Bedrock to *roles* and *groups* as well.

    *services* are those whose cost counts, as Cost Explorer names them; none: the whole account's.
    """
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "The last line of defence behind bedrock_guard: deny Bedrock at a billed cost.",
        "Resources": {
            "Topic": {"Type": "AWS::SNS::Topic"},
            "TopicPolicy": {
                "Type": "AWS::SNS::TopicPolicy",
                "Properties": {
                    "Topics": [_TOPIC],
                    "PolicyDocument": _document(
                        {
                            "Effect": "Allow",
                            "Principal": _BUDGETS,
                            "Action": "sns:Publish",
                            "Resource": _TOPIC,
                            "Condition": _OF_THIS_ACCOUNT,
                        }
                    ),
                },
            },
            **{
                f"Email{number}": {
                    "Type": "AWS::SNS::Subscription",
                    "Properties": {"TopicArn": _TOPIC, "Protocol": "email", "Endpoint": email},
                }
                for number, email in enumerate(emails, 1)
            },
            "Budget": _budget(usd, period, services),
            "DenyPolicy": {
                "Type": "AWS::IAM::ManagedPolicy",
                "Properties": {
                    "Description": "Attached by AWS Budgets: no inference on Bedrock.",
                    "PolicyDocument": _document(
                        {"Effect": "Deny", "Action": list(DENIED), "Resource": "*"},
                    ),
                },
            },
            "ActionRole": _action_role(roles, groups),
            "Action": _action(roles, groups),
        },
        "Outputs": {"TopicArn": {"Value": _TOPIC}, "DenyPolicy": {"Value": {"Ref": "DenyPolicy"}}},
    }


def _budget(usd: Decimal, period: str, services: Sequence[str]) -> dict[str, Any]:
    filters = {"CostFilters": {"Service": list(services)}} if services else {}
    return {
        "Type": "AWS::Budgets::Budget",
        "DependsOn": "TopicPolicy",
        "Properties": {
            "Budget": {
                "BudgetType": "COST",
                "TimeUnit": TIME_UNITS[period],
                "BudgetLimit": {"Amount": f"{usd:f}", "Unit": "USD"},
                **filters,
            },
            "NotificationsWithSubscribers": [
                {
                    "Notification": {
                        "NotificationType": "ACTUAL",
                        "ComparisonOperator": "GREATER_THAN",
                        "ThresholdType": "PERCENTAGE",
                        "Threshold": 80,
                    },
                    "Subscribers": [{"SubscriptionType": "SNS", "Address": _TOPIC}],
                }
            ],
        },
    }


def _action_role(roles: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    """
    What AWS Budgets does it with: it may attach this one policy, to these, and nothing else.
    """
    statements = [
        {
            "Effect": "Allow",
            "Action": [f"iam:Attach{kind}Policy", f"iam:Detach{kind}Policy"],
            "Resource": [_arn(kind.lower(), name) for name in names],
            "Condition": {"ArnEquals": {"iam:PolicyARN": {"Ref": "DenyPolicy"}}},
        }
        for kind, names in (("Role", roles), ("Group", groups))
        if names
    ]
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": _document(
                {
                    "Effect": "Allow",
                    "Principal": _BUDGETS,
                    "Action": "sts:AssumeRole",
                    "Condition": _OF_THIS_ACCOUNT,
                }
            ),
            "Policies": [{"PolicyName": "attach-deny", "PolicyDocument": _document(*statements)}],
        },
    }


def _action(roles: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
    targets = {
        kind: [_name(name) for name in names]
        for kind, names in (("Roles", roles), ("Groups", groups))
        if names
    }
    return {
        "Type": "AWS::Budgets::BudgetsAction",
        "DependsOn": "TopicPolicy",
        "Properties": {
            "BudgetName": {"Ref": "Budget"},
            "ActionType": "APPLY_IAM_POLICY",
            "ActionThreshold": {"Type": "PERCENTAGE", "Value": 100},
            "ApprovalModel": "AUTOMATIC",
            "NotificationType": "ACTUAL",
            "ExecutionRoleArn": {"Fn::GetAtt": ["ActionRole", "Arn"]},
            "Definition": {"IamActionDefinition": {"PolicyArn": {"Ref": "DenyPolicy"}, **targets}},
            "Subscribers": [{"Type": "SNS", "Address": _TOPIC}],
        },
    }


def _arn(kind: str, name: str) -> dict[str, str]:
    # A name may have its path before it, as an ARN does and an action does not.
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:iam::${{AWS::AccountId}}:{kind}/{name}"}


def _name(name: str) -> str:
    return name.rpartition("/")[2]


def _document(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}
