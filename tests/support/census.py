"""What the chats of a node hold in this process: their tasks, and the entries of everything that they remember.

Invariants: nothing here depends on how a part of the chat is called or what it keeps where.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from statestream.chat import Conversations

OURS = ("statestream.chat", "statestream.store.notifier")


def tasks_of(chats: Conversations) -> list[asyncio.Task[Any]]:
    """The tasks of these chats that have not ended."""
    return [task for task in asyncio.all_tasks() if task.get_name().startswith(f"chat {chats.node} ")]


def reply_tasks(chats: Conversations) -> list[asyncio.Task[Any]]:
    """Those of them that make replies, or do what must not end with a request."""
    return [task for task in tasks_of(chats) if task.get_name().endswith("reply")]


def entries(root: Any) -> int:
    """How many entries all containers have that can be reached from here through objects of the chat."""
    count, seen, found = 0, set(), [root]
    while found:
        one = found.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Counter):
            continue  # of what has ended, by kind: it remembers nothing of any of them
        if isinstance(one, dict):
            count += len(one)
            found += [*one, *one.values()]
        elif isinstance(one, list | set | frozenset | tuple | deque):
            count += len(one)
            found += one
        elif type(one).__module__.startswith(OURS):
            found += attributes(one)
    return count


def attributes(one: Any) -> Iterator[Any]:
    yield from getattr(one, "__dict__", {}).values()
    for kind in type(one).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(one, name):
                yield getattr(one, name)
