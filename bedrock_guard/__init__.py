"""
A hard spending limit for Amazon Bedrock, inside the boto3 client you already have.
"""
