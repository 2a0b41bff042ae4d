"""Fan-out: from a commit to the sockets of every subscriber. `hub` is the way in."""
