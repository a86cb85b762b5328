"""
What a page shows and what JSON has of it: one or two pages a file.
"""
