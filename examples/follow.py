"""Follows a served board, adds a task, and prints what comes: python examples/follow.py http://127.0.0.1:8000"""

import asyncio
import sys
import uuid

import statestream


async def main(url: str) -> None:
    async with statestream.connect(url, slices=["board"]) as stream:
        print("tasks:", [task["title"] for task in stream.state["board"]["tasks"]])
        added = await stream.dispatch("board/task_added", {"id": uuid.uuid4().hex, "title": "Written by follow.py"})
        async for update in stream:
            print(update.kind, update.reason or update.patches or "")
            if update.position == str(added.position):
                break
        print("tasks:", [task["title"] for task in stream.state["board"]["tasks"]])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"))
