"""Follows the board of examples/board, adds a card, and prints what comes: python examples/follow.py URL"""

import asyncio
import sys
import uuid

import statestream


async def main(url: str) -> None:
    async with statestream.connect(url, slices=["board"]) as stream:
        print("cards:", [card["title"] for card in stream.state["board"]["cards"]])
        added = await stream.dispatch("board/card_added", {"id": uuid.uuid4().hex, "title": "Written by follow.py"})
        async for update in stream:
            print(update.kind, update.reason or update.patches or "")
            if update.position == str(added.position):
                break
        print("cards:", [card["title"] for card in stream.state["board"]["cards"]])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"))
