"""`python -m statestream` and `statestream`: the command, or what to install for it."""

import sys


def main() -> None:
    try:
        from statestream.cli import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        print("the statestream command needs an extra: pip install 'statestream[cli]'", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None
    app()


if __name__ == "__main__":
    main()
