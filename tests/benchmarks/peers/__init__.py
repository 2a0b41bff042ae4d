"""Fan-out, side by side: the same work on statestream, on its peers and on a bare C loop, in the same run.

`workload` (Python and Node) is the work; `adapters/` are the servers, `servers` says how each is started;
`floor.c` is the limit, `load.c` the readers; `rig` runs one server and its load on a core each; `scenarios`
and `crowds` say what is measured; `targets` what is hoped for; `publish` makes the page and the plots.

Invariants: an adapter does the same job and nothing less, which tests/tools/test_peers.py checks. No ratio is taken
between figures of different runs.
"""
