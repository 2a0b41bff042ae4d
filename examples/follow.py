"""Follows a served board, adds a task, and prints what comes: python examples/follow.py http://127.0.0.1:8000"""

import asyncio
import sys
import uuid

import statestream


async def main(url: str) -> None:
    async with statestream.connect(url, slices=["board"]) as stream:
        print("tasks:", [task["title"] for task in stream.state["board"]["tasks"]])
        updates = aiter(stream)  # looks from here on
        await stream.dispatch("board/task_added", {"id": uuid.uuid4().hex, "title": "Written by follow.py"})
        update = await anext(updates)
        print("then:", update.kind, update.patches or stream.state["board"])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"))
