"""Several processes on one port: `statestream serve --workers N`.

`served` is what is served, as the command line says it. A `supervisor` starts a `worker_process` for each share of the
port, replaces those that end, and restarts them one after the other. `worker` is the program of such a process.
"""
