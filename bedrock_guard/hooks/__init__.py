"""
botocore <-> pipeline; the only folder that knows botocore's events.
"""
