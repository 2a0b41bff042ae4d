"""`python -m statestream` is the `statestream` command."""

from statestream.cli import main

if __name__ == "__main__":
    main()
