"""
Tools for testing code that spends money on Bedrock, without spending any.
"""
