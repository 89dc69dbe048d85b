"""Benchmarks: ratios against a named rival, measured in one run, with every result checked.

`python -m runtime_tests.bench` runs them all and writes RESULTS.md. None is a timed test: a machine in a CI is shared.
"""
