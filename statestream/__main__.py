"""`python -m statestream` and the command `statestream`.

Invariants: the only module that runs a tool; importing the package imports none.
"""

from statestream.tools.cli import app


def main() -> None:
    app()


if __name__ == "__main__":
    main()
