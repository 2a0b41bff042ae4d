"""What the nodes of a chat owe each other: leases, presence, and the recovery of what a lost node has left behind.

Invariants: nodes communicate through the store only. A slice that only one file here writes is declared in that file.
"""
