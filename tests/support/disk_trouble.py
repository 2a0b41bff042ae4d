"""Run by test_journals on a small file system: the disk fills up, or turns read-only, while a store writes to it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from statestream.core.errors import JournalUnusable, Unavailable
from statestream.journal import SqliteJournal
from statestream.journal.history import History
from statestream.testing.journals import entry, value, write


async def main(directory: Path, trouble: str) -> None:
    path = directory / "j.db"
    journal = SqliteJournal(path)
    await journal.open()
    acknowledged = 0
    try:
        for number in range(1, 5_000):
            await write(journal, entry(value("a", f"{number:06}" + "x" * 1_000)))
            acknowledged = number
            if number == 20 and trouble == "read-only":
                await journal.close()
                subprocess.run(["mount", "-o", "remount,ro", directory], check=True)
                try:
                    await SqliteJournal(path).open()
                except JournalUnusable as error:
                    print("refused:", error)
                    subprocess.run(["mount", "-o", "remount,rw", directory], check=True)
                    break
                raise AssertionError("a read-only journal was opened")
    except Unavailable as error:
        print("unavailable:", error)
        await journal.close()
    assert acknowledged >= 20, acknowledged
    subprocess.run(["mount", "-o", "remount,size=4m", directory], check=True)
    journal = SqliteJournal(path)
    await journal.open()
    held = (await History(journal).load()).slices["a"].value
    assert int(held[:6]) == acknowledged, (held[:6], acknowledged)
    await write(journal, entry(value("a", "again")))
    await journal.close()
    print("nothing lost")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
