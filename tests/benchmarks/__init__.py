"""Benchmarks: what things cost, measured and printed, never asserted. `python -m tests.benchmarks [name …]`."""
