"""`statestream watch URL`: a server's state while it changes.

    watched_server  the connection: frames in, until something ends it
    lines           one line for each change, for a stdout that is not a terminal
    activity        the newest frames, how many per second, and what changed where
    change_marks    where in the state something has changed, and when
    value_line      a value in the rest of a line
    state_tree      the state in a given number of lines
    screen          everything as rows of styled text
    terminal        rows to a terminal, only those that differ, and the terminal restored in the end
    live_screen     draws a screen now and then, while the server is watched

Invariants: everything before `terminal` is pure and receives the time as an argument. A screen is made from the newest
state when it is time for one, never because something changed: the cost of drawing does not grow with the changes.
"""
