"""`statestream watch URL`: a server's state while it changes.

    command   the options, and which way of showing it is: a picture on a terminal, lines elsewhere
    follow    the connection: frames in, until something ends it
    news      what has been heard: the newest frames, how many a second, what changed where
    marks     where in the state something has changed, and when
    inline    a value in the rest of a line
    tree      the state in as many lines as there are
    picture   all of it as rows of styled text
    terminal  rows to a terminal, only those that differ; and the terminal as it was, in the end

Invariants: everything before `terminal` is pure, and is told the time. A picture is made of the newest state when it is
time for one, never because something changed: the cost of drawing does not grow with the changes.
"""
