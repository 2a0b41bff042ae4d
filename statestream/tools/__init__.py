"""Programs around the engine: the command line, `watch`, `bench`, `conformance` and the demo."""
