"""A visit: the conversations as the sender of one request may see and change them.

On a server that authenticates, a chat is for those who belong to it. To everybody else it does not exist: they see what
anybody sees of an id that nobody has used, and are refused by the same errors, after the same steps.

Invariants: routes and sockets reach conversations through a visit only. Each method checks the right itself, against
the committed state. Whether it still holds when an action takes effect is checked by the action.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from statestream.chat.approvals import Decision, ToolAnswer
from statestream.chat.chats import exists, missing
from statestream.chat.conversations import Conversations
from statestream.chat.members import belongs, person_key
from statestream.chat.messages import State
from statestream.chat.people import PeopleAnswer
from statestream.chat.question import Question
from statestream.chat.questions import Asked
from statestream.chat.slices.conversation import NOT_MEMBER, chat_slice
from statestream.chat.slices.uploads import FileEntry
from statestream.core.change import Position
from statestream.core.errors import Forbidden, Refused
from statestream.core.principal import Principal
from statestream.store.notifier import Notifier

T = TypeVar("T")


class Visit:
    """The conversations of a node as a principal may use them. `person` is the name of the one behind it, or None."""

    def __init__(self, conversations: Conversations, principal: Principal, person: str | None) -> None:
        self._conversations, self._guarded, self._by = conversations, principal.closed, principal.identity
        self.person = person
        self._key = None if person is None else person_key(person)

    @property
    def notifier(self) -> Notifier:
        return self._conversations.notifier

    @property
    def position(self) -> Position:
        return self._conversations.view.position

    def shielded(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """See Conversations."""
        return self._conversations.shielded(work)

    async def caught_up(self) -> None:
        """See Conversations."""
        await self._conversations.caught_up()

    # what there is

    async def find(self, key: str) -> State:
        """The chat's committed state, which must not be mutated; the initial state if there is none for this person."""
        state = await self._conversations.find(key)
        return state if self._may_enter(state) else chat_slice.initial

    async def current(self, key: str) -> State:
        """The same as the journal has it, and not only this node."""
        await self.caught_up()
        return await self.find(key)

    async def existing(self, key: str) -> State:
        """The chat's committed state. Raises NotFound."""
        if not await self._exists(key):
            await self.caught_up()
        if not await self._exists(key):
            raise missing()
        return await self.find(key)

    async def _exists(self, key: str) -> bool:
        return exists(self._conversations.view, key) and self._may_enter(await self._conversations.find(key))

    def _may_enter(self, state: State) -> bool:
        return not self._guarded or (self._key is not None and belongs(state, self._key))

    async def in_progress(self, key: str) -> Any:
        """The reply in progress, or None."""
        if not await self._exists(key):
            await self.caught_up()
        return await self._conversations.in_progress(key) if await self._exists(key) else None

    async def older(self, key: str, *, before: str, limit: int) -> list[Any]:
        """Messages before that one, see Conversations. Raises NotFound."""
        await self.existing(key)
        return await self._conversations.older(key, before=before, limit=limit)

    async def is_archived(self, key: str, message: str) -> bool:
        """Whether the message with that id has moved to the archive."""
        return await self._exists(key) and await self._conversations.is_archived(key, message)

    # what can be done

    async def create(self) -> str:
        """Creates an empty chat, owned by this person, and returns its key."""
        return await self._conversations.create(user=self.person, by=self._by)

    async def submit(
        self, key: str, question: Question, *, create: bool = False, leaf: str | None = None, show: bool = True
    ) -> Asked:
        """Asks a question, or queues it; see Conversations. Raises NotFound, Refused."""
        if create and self._guarded and not exists(self._conversations.view, key):
            await self.caught_up()  # it may be somebody else's
        if not create or exists(self._conversations.view, key):
            await self.existing(key)
        with self._acting():
            return await self._conversations.submit(key, question, create=create, leaf=leaf, show=show, by=self._by)

    async def remove_question(self, key: str, question: str) -> None:
        """Removes a question of this person from the queue. Raises NotFound, Forbidden."""
        await self.existing(key)
        with self._acting():
            await self._conversations.questions.remove(key, question, by=self._by)

    async def regenerate(self, key: str, question: str, *, leaf: str | None = None) -> str:
        """Makes another reply, see Conversations. Raises NotFound, Refused."""
        await self.existing(key)
        with self._acting():
            return await self._conversations.regenerate(key, question, leaf=leaf, by=self._by)

    async def continue_reply(self, key: str, message: str, *, leaf: str | None = None) -> str:
        """Lets a reply continue that was cut off, see Conversations. Raises NotFound, Refused."""
        await self.existing(key)
        with self._acting():
            return await self._conversations.continue_reply(key, message, leaf=leaf, by=self._by)

    async def settle(
        self,
        key: str,
        *,
        decisions: Sequence[Decision] = (),
        answers: Sequence[ToolAnswer] = (),
        window: str | None = None,
    ) -> str:
        """Decides about waiting tool calls, or saves their results; see Conversations.

        Raises NotFound, Forbidden, Refused.
        """
        await self.existing(key)
        with self._acting():
            return await self._conversations.calls.settle(
                key, decisions=decisions, answers=answers, window=window, by=self._by
            )

    async def claim(self, key: str, id: str, window: str) -> None:
        """Claims a call of a front-end tool; see Conversations. Raises NotFound, Refused."""
        await self.existing(key)
        with self._acting():
            await self._conversations.calls.claim(key, id, window, by=self._by)

    async def stop(self, key: str, reply: str | None = None) -> bool:
        """Ends the reply in progress, see Conversations. Raises NotFound."""
        await self.existing(key)
        with self._acting():
            return await self._conversations.stop(key, reply, by=self._by)

    async def newest_below(self, key: str, message: str) -> str:
        """The leaf if that message is chosen, see Conversations. Raises NotFound."""
        await self.existing(key)
        return await self._conversations.newest_below(key, message)

    async def branch(self, key: str, message: str, *, leaf: str | None = None) -> None:
        """Shows another branch to everybody, see Conversations. Raises NotFound, Refused."""
        await self.existing(key)
        with self._acting():
            await self._conversations.branch(key, message, leaf=leaf, by=self._by)

    @contextlib.contextmanager
    def _acting(self) -> Iterator[None]:
        """Around an action: raises NotFound if the person does not belong to the chat when it takes effect."""
        try:
            yield
        except Refused as refused:
            if refused.reason != NOT_MEMBER:
                raise
            raise missing() from None

    # files

    async def upload(
        self, key: str, content: AsyncIterator[bytes], media_type: str, filename: str | None, size: int | None
    ) -> dict[str, Any]:
        """Stores a file; see FileKeeper. Returns its part, and its size. Raises NotFound, Refused, TooLarge."""
        await self.existing(key)
        part = await self._conversations.files.upload(
            key, content, media_type=media_type, filename=filename, size=size, person=self.person
        )
        await self.existing(key)  # they may have been removed from the chat meanwhile
        return part

    async def file(self, key: str, file: str) -> FileEntry | None:
        """What is known of a file, or None. Raises NotFound."""
        await self.existing(key)
        return await self._conversations.files.find(key, file)

    def reading(
        self, key: str, file: str, start: int, length: int
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The bytes of a file that `file` has found."""
        return self._conversations.files.read(key, file, start=start, length=length)

    # people

    def enter(self, key: str) -> Callable[[], None] | None:
        """A stream of this person has opened in that chat. Call the result once, when it has closed."""
        return None if self.person is None else self._conversations.presence.enter(key, self.person)

    def typing(self, key: str, *, on: bool) -> bool:
        """The person types. Returns False if no stream of theirs is open here."""
        return self.person is not None and self._conversations.presence.typing(key, self.person, on=on)

    async def people(self, key: str) -> PeopleAnswer:
        """The owner and the participants. Raises NotFound."""
        await self.existing(key)
        return await self._conversations.people.of(key)

    async def invite(self, key: str, subject: str) -> None:
        """Raises NotFound, Forbidden, Refused, Malformed."""
        await self._owned(key, "invite people")
        with self._acting():
            await self._conversations.people.invite(key, subject, by=self._by)

    async def remove(self, key: str, subject: str) -> None:
        """Leaves the chat, or removes somebody else from it. Raises NotFound, Forbidden, Refused, Malformed."""
        if subject != self.person:
            await self._owned(key, "remove people")
        await self.existing(key)
        with self._acting():
            await self._conversations.people.remove(key, subject, by=self._by)

    async def delete(self, key: str) -> None:
        """Deletes the chat. Raises NotFound, Forbidden."""
        await self._owned(key, "delete it")
        with self._acting():
            await self._conversations.people.delete(key, by=self._by)

    async def _owned(self, key: str, what: str) -> None:
        """Raises NotFound, and Forbidden unless this person owns the chat."""
        state = await self.existing(key)
        if self._guarded and state.get("user") != self._key:
            raise Forbidden(f"only the owner of this chat can {what}")
