"""Fan-out: from a commit to the sockets of every reader. `hub` is the way in."""
