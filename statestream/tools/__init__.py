"""Programs around the engine, built on its public interfaces.

    cli           the command `statestream`: all commands, and what precedes a command
    commands/     one file for each command: its arguments, its messages, its exit codes
    console/      what commands share: options, errors as sentences and exit codes, text that is safe for a terminal
    target        a server, as the command line names it
    template      an action that is dispatched many times
    watch/        the state on a terminal while it changes
    bench/        a load on a server, and measurements of it
    conformance/  whether a server or a client keeps the protocol's promises
    typescript/   what a store declares, as types of TypeScript
    playback/     a recording, served as if it happened now
    runs_in_journal  the replies in a journal that have not ended
    demo          a chat, a board, and a page for both

Invariants: the engine imports nothing from here; `statestream.testing` does, because it exports `conformance`.
"""
