"""A store without a server: dispatch, listen, read. Runs by itself and ends."""

import asyncio

from statestream import Change, Slice, Store

counter = Slice("counter", initial=0, type=int)


@counter.action
def added(state: int, *, by: int) -> int:
    """A handler may return the new value instead of changing a draft."""
    return state + by


async def main() -> None:
    changes: list[Change] = []
    async with Store([counter]) as store:
        store.on_change(changes.append)
        await asyncio.gather(*(store.dispatch(added(by=n)) for n in range(1, 11)))
        print("value:", store.get(counter), "after", len(changes), "changes")


if __name__ == "__main__":
    asyncio.run(main())
