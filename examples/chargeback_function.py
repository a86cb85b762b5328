"""
A Lambda function that writes a month's chargeback to S3, a line for each team and user.

A schedule of EventBridge runs it on the second of each month, for the month before. Its environment:

    BEDROCK_GUARD_LEDGER=dynamodb://my-budgets
    CHARGEBACK_BUCKET=my-reports
    CHARGEBACK_TAGS=team,user

It is packed with `bedrock-guard[cli]`: what it writes is what `bedrock-guard report chargeback` prints.
"""

import os
import subprocess
import sys
from datetime import datetime, timedelta

import boto3

BUCKET = os.environ["CHARGEBACK_BUCKET"]
PREFIX = os.environ.get("CHARGEBACK_PREFIX", "chargeback/")
TAGS = os.environ.get("CHARGEBACK_TAGS", "team,user").split(",")

s3 = boto3.client("s3")


def handler(event, _context):
    # The time of the schedule, not of the clock: what is tried again days later is of the same month.
    month = event.get("month") or month_before(datetime.fromisoformat(event["time"]))
    report = [sys.executable, "-m", "bedrock_guard", "report", "chargeback", month]
    for tag in TAGS:
        report += ["--by", tag]
    done = subprocess.run(report, capture_output=True, check=False)  # noqa: S603
    told = done.stderr.decode()
    if done.returncode:
        raise RuntimeError(told)  # the schedule tries again, and then its dead-letter queue has the event

    key = f"{PREFIX}{month}.csv"
    s3.put_object(Bucket=BUCKET, Key=key, Body=done.stdout, ContentType="text/csv; charset=utf-8")
    print(told.strip())
    return {"month": month, "key": key, "lines": done.stdout.count(b"\n") - 1}


def month_before(moment):
    return f"{moment.replace(day=1) - timedelta(days=1):%Y-%m}"
