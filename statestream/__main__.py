"""`python -m statestream` and `statestream`: the command, or what to install for it."""

import sys


def main() -> None:
    try:
        from statestream.tools.cli import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        sentence = "the statestream command needs more: install statestream with the extra cli, as the README shows"
        print(sentence, file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
    app()


if __name__ == "__main__":
    main()
