"""HTTP in front of a store. `app` makes the application, `serve` serves it."""
