"""Measures this machine once a second, with psutil: python examples/dashboard/producer.py [URL]"""

import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator

import psutil

import statestream


def counters() -> dict[str, int]:
    """Bytes since the machine has started."""
    networks = [each for name, each in psutil.net_io_counters(pernic=True).items() if name not in ("lo", "lo0")]
    disk = psutil.disk_io_counters()  # None in some containers
    return {
        "received": sum(each.bytes_recv for each in networks),
        "sent": sum(each.bytes_sent for each in networks),
        "read": disk.read_bytes if disk else 0,
        "written": disk.write_bytes if disk else 0,
    }


async def samples() -> AsyncIterator[dict[str, float]]:
    psutil.cpu_percent()  # the first call only marks the time from which the next one measures
    before, then = counters(), time.monotonic()
    while True:
        await asyncio.sleep(1)
        after, now = counters(), time.monotonic()
        rates = {name: (after[name] - before[name]) / (now - then) for name in after}
        yield {"cpu": psutil.cpu_percent(), "memory": psutil.virtual_memory().percent} | rates
        before, then = after, now


async def main(url: str) -> None:
    async with statestream.connect(url, slices=["host"]) as stream:
        memory = psutil.virtual_memory().total
        about = {"name": socket.gethostname(), "cores": psutil.cpu_count() or 1, "memory": memory}
        async for figures in samples():
            try:
                if stream.state["host"]["name"] != about["name"]:  # at first, and when the server has started anew
                    await stream.dispatch("host/started", about)
                await stream.dispatch("host/sampled", {"figures": figures})
            except statestream.Unavailable as error:  # a sample of the past is of no use: go on with the next one
                print(error, file=sys.stderr)


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"))
    except KeyboardInterrupt:
        pass
    except statestream.StatestreamError as error:
        sys.exit(str(error))
