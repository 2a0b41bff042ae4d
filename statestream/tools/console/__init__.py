"""What the commands share.

    text          text of others, made safe for a terminal, and short
    change_lines  a change in one line
    output        results to stdout, everything else to stderr
    exit_codes    running a command: errors become a sentence and an exit code
    options       options that several commands have
    program       an object in a program of the user: a store, an authenticator
    requests      the way to a server, without the errors of a driver
    serving       running a server until it is stopped
    systemd       telling systemd how far a service is

Invariants: nothing here belongs to one command only.
"""
