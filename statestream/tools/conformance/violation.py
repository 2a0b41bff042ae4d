"""A promise that the server did not keep.

Invariants: a Violation is the only thing that fails a check. Its sentence says what was expected and what came.
"""


class Violation(Exception):
    """The server broke the promise that is being checked."""


def expect(kept: object, sentence: str) -> None:
    """Raises Violation with the sentence unless `kept`."""
    if not kept:
        raise Violation(sentence)
