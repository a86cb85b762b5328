"""
The table and who may do what with it, for CloudFormation.

Writers are the programs that call Bedrock; readers make reports; operators set the table up, migrate it,
and may do all of it. Writers write the partitions of balances and calls and no other
(`dynamodb:LeadingKeys`): the schema and what steers them they only read. The stops of breakers are theirs to
write, in a partition of their own, as a program may always stop itself; it cannot take back what an
operator has said.
"""

from __future__ import annotations

from typing import Any, Final

from bedrock_guard.ledgers.dynamodb import items
from bedrock_guard.ledgers.dynamodb.schema import KEYS, TTL_ATTRIBUTE

_READ: Final = ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"]
_WRITE: Final = ["dynamodb:PutItem", "dynamodb:UpdateItem"]
_TABLE_ARN: Final = {"Fn::GetAtt": ["Ledger", "Arn"]}


def template(table: str) -> dict[str, Any]:
    """
    A CloudFormation template that makes *table* and three managed policies.
    """
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "The ledger of bedrock_guard: a budget for Amazon Bedrock that hosts share.",
        "Parameters": {"TableName": {"Type": "String", "Default": table}},
        "Resources": {
            "Ledger": {
                "Type": "AWS::DynamoDB::Table",
                "DeletionPolicy": "Retain",
                "UpdateReplacePolicy": "Retain",
                "Properties": {
                    "TableName": {"Ref": "TableName"},
                    **KEYS,
                    "DeletionProtectionEnabled": True,
                    "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
                    "SSESpecification": {"SSEEnabled": True},
                    "TimeToLiveSpecification": {"AttributeName": TTL_ATTRIBUTE, "Enabled": True},
                },
            },
            "WriterPolicy": _policy(
                "Programs that call Bedrock.",
                _allow(_READ, (*items.WRITTEN, *items.STEERING)),
                _allow(_WRITE, items.WRITTEN),
            ),
            "ReaderPolicy": _policy("Reports.", _allow(_READ)),
            "OperatorPolicy": _policy("Who runs the budgets.", _allow([*_READ, *_WRITE])),
        },
        "Outputs": {
            "TableArn": {"Value": _TABLE_ARN},
            **{name: {"Value": {"Ref": name}} for name in ("WriterPolicy", "ReaderPolicy", "OperatorPolicy")},
        },
    }


def _policy(description: str, *statements: dict[str, Any]) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": {
            "Description": description,
            "PolicyDocument": {"Version": "2012-10-17", "Statement": list(statements)},
        },
    }


def _allow(actions: list[str], partitions: tuple[str, ...] = ()) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": actions, "Resource": _TABLE_ARN}
    if partitions:
        statement["Condition"] = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": list(partitions)}}
    return statement
