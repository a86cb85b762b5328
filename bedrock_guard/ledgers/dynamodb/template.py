"""
The table and who may do what with it, for CloudFormation.

Writers are the programs that call Bedrock; readers make reports; operators may do all of it. Writers
are bound to the partitions of balances and calls (`dynamodb:LeadingKeys`), so that what will steer
them can be kept out of their reach in the same table.
"""

from __future__ import annotations

from typing import Any, Final

from bedrock_guard.ledgers.dynamodb.schema import KEYS, TTL_ATTRIBUTE

_READ: Final = ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query"]
_WRITE: Final = [*_READ, "dynamodb:PutItem", "dynamodb:UpdateItem"]
_PARTITIONS: Final = ["B#*", "D#*", "J#*", "F", "M"]
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
            "WriterPolicy": _policy("Programs that call Bedrock.", _WRITE, _PARTITIONS),
            "ReaderPolicy": _policy("Reports.", _READ, None),
            "OperatorPolicy": _policy("Who runs the budgets.", _WRITE, None),
        },
        "Outputs": {
            "TableArn": {"Value": _TABLE_ARN},
            **{name: {"Value": {"Ref": name}} for name in ("WriterPolicy", "ReaderPolicy", "OperatorPolicy")},
        },
    }


def _policy(description: str, allowed: list[str], partitions: list[str] | None) -> dict[str, Any]:
    statement: dict[str, Any] = {"Effect": "Allow", "Action": allowed, "Resource": _TABLE_ARN}
    if partitions is not None:
        statement["Condition"] = {"ForAllValues:StringLike": {"dynamodb:LeadingKeys": partitions}}
    return {
        "Type": "AWS::IAM::ManagedPolicy",
        "Properties": {
            "Description": description,
            "PolicyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        },
    }
