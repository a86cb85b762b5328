"""
Batch jobs: where their files are, what their records come to, and how a job is settled when it is done.
"""
