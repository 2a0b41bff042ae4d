"""Questions that the server asks at a certain time, by itself.

Invariants: a scheduled question is in the store only, and nobody sees it before it is asked. It is asked once, by its
id: scheduling it again before that replaces it, afterwards nothing happens. So several processes may schedule the same
question, and a program may do so each time that it starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct

from statestream.chat.chats import missing
from statestream.chat.file_keeper import FileKeeper
from statestream.chat.question import Question
from statestream.chat.questions import Chats, Questions
from statestream.chat.settings import Settings
from statestream.chat.slices import erasures, later, waits
from statestream.chat.slices.conversation import optional
from statestream.core.errors import Refused, VersionConflict
from statestream.core.principal import Identity
from statestream.store.view import StoreView


class Scheduled(Struct, frozen=True, kw_only=True):
    """A scheduled question: its id, the time at which the server asks it, and its text."""

    id: str
    at: datetime
    text: str


class Schedule:
    """The scheduled questions of the chats of a store. The methods check no rights: they are for server code."""

    def __init__(
        self, view: StoreView, settings: Settings, questions: Questions, files: FileKeeper, chats: Chats
    ) -> None:
        self._view, self._questions, self._files, self._chats = view, questions, files, chats
        self._agents = settings.agents

    async def add(self, key: str, question: Question, *, at: datetime, by: Identity | None = None) -> str:
        """Schedules a question for a time. If that has passed, the server asks it soon. Returns the id of the question.

        The server asks the question on behalf of `by`. If a reply is unfinished at that time, it asks afterwards. To
        make this idempotent, pass a question with an `id`. Raises NotFound, Refused, Unavailable, and ValueError for a
        time without a time zone, and for a question that edits a message or has `settings`.
        """
        if at.tzinfo is None:
            raise ValueError("expected `at` with a time zone, as in datetime.now(UTC) + timedelta(hours=1)")
        if question.edits is not None or question.settings is not None:
            raise ValueError("expected a question without `edits` and `settings`: they cannot be scheduled")
        await self._chats.existing(key)
        self._agents.check(question.agent)
        payload = question.payload()
        payload["parts"] = await self._files.take_in(key, question.parts, None if by is None else by.subject)
        await self._chats.caught_up()
        if not await self._questions.is_known(key, payload["id"]):
            more = optional(agent=question.agent, asker=waits.kept(by), brought=question.provisions.kept())
            milliseconds = round(at.timestamp() * 1000)
            files = await self._view.complete(lambda: self._files.keeping(key, payload["parts"]))
            kept = later.kept(key, id=payload["id"], at=milliseconds, question=payload, **more)
            try:
                await self._view.dispatch([kept, *files], expect=erasures.undeleted(key))
            except VersionConflict:  # it was deleted meanwhile
                raise missing() from None
        return payload["id"]

    async def of(self, key: str) -> Sequence[Scheduled]:
        """The scheduled questions of a chat, the next one first. Raises NotFound."""
        await self._chats.existing(key)
        await self._chats.caught_up()
        found = await self._view.complete(lambda: later.scheduled(self._view, key))
        return [
            Scheduled(
                id=each.question["id"],
                at=datetime.fromtimestamp((each.at or 0) / 1000, UTC),
                text="".join(part["text"] for part in each.question["parts"] if part["type"] == "text"),
            )
            for each in found
        ]

    async def cancel(self, key: str, id: str) -> bool:
        """Cancels a scheduled question. Returns False if there is none with this id, or if it was asked already.

        Raises NotFound, Unavailable.
        """
        if all(each.id != id for each in await self.of(key)):
            return False
        try:
            await self._view.dispatch(later.taken(key, id=id))
        except Refused:  # it was asked
            return False
        return True
