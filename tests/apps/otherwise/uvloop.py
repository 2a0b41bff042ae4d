"""First on the path, it makes a server run on asyncio's own loop, as where uvloop is not installed."""

raise ImportError("not here")
