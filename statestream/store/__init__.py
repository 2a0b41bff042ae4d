"""The store: it runs actions in transactions, journals what they change, and announces it."""
