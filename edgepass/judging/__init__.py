"""Judging: whether a file is as accurate, small and light as asked, and what is written down about it."""
