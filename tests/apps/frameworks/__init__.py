"""The same agents in each framework, for `tests/apps/adapted.py`."""
