"""`python -m statestream` and the command `statestream`.

Invariants: the only module that runs a tool; importing the package imports none.
"""

from statestream.tools.cli import command


def main() -> None:
    command()


if __name__ == "__main__":
    main()
