"""Parsers of what strangers send, fed with whatever a fuzzer finds. Run by hand: see `__main__.py`."""
