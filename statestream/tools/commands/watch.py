"""`statestream watch URL`: shows the state while it changes.

Invariants: arguments, messages and exit codes only; `tools/watch` shows it, on a terminal or as lines.
"""

from __future__ import annotations

from statestream.tools.console.exit_codes import run
from statestream.tools.console.options import Headers, Json, Slices, Url, target_of
from statestream.tools.watch.lines import print_changes


def watch(url: Url, slices: Slices = None, header: Headers = None, as_json: Json = False) -> None:
    """Shows the state while it changes, what has just changed in it, and the health of the stream. Ctrl-C ends it.

    If stdout is not a terminal, it prints a line for each change instead.
    With --json it prints each frame as a line, with its position.

    Exit code 0: you ended it. 1: the server refused, or did not answer.
    2: invalid usage.

    \b
    statestream watch URL
    statestream watch URL --slices 'board,chat/*'
    statestream watch URL --json | jq -c 'select(.slice == "board") | .patches'
    """  # noqa: D301  # \b keeps the lines apart
    target = target_of(url, slices, header)
    # Imported here, because `termios` exists on systems with terminals only, and other commands run everywhere.
    from statestream.tools.watch.live_screen import draw_changes
    from statestream.tools.watch.terminal import Terminal

    terminal = Terminal()
    if terminal.can_draw and not as_json:
        run(draw_changes(target, terminal))
    else:
        run(print_changes(target, as_json))
