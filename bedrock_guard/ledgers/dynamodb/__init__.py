"""
A ledger in one DynamoDB table, shared by a fleet.

    ledger     Ledger: reserve, extend, settle, release, record
    sweeping   finds what dead processes left, and ends it
    controls   stops and top-ups, and a copy of them
    journal    entries, newest first, out of all partitions
    segments   entries of many calls in one item
    actions    what is written, as requests to DynamoDB
    items      what an item holds, and back
    table      one table: requests with deadlines, and what its errors mean
    schema     makes the table, and looks whether it is ours
    address    dynamodb://TABLE?region=...
"""

from bedrock_guard.ledgers.dynamodb.ledger import DynamoDBLedger
from bedrock_guard.ledgers.dynamodb.schema import create_table

__all__ = ["DynamoDBLedger", "create_table"]
