"""The edge: HTTP in front of a store. `app` makes the application, `run` serves it."""
