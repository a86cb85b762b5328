"""
Settings in: arguments, environment and files, checked and frozen.
"""
