"""
Bedrock's own invocation logs, played through budgets: what would have been refused, and what was spent.

    files --documents--> records --sorting--> calls in the order of time --playing--> findings

Nothing here is sent, and no ledger but one in memory is written. Of a request and a reply only sizes and
counts are kept.
"""
