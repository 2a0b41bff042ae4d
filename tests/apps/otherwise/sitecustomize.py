"""Run by Python as it starts: io_uring sends also to few readers, which is what the tests of streams have."""

from statestream.broadcast import sockets

sockets.FEW = 0
