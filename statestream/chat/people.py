"""Who belongs to a chat, changed: invite, remove, delete.

Invariants: the actions decide whether the person behind them may do this. Deleting removes everything that the store
has of a chat, in one request, so that a crash leaves all of it or nothing. It is then erased from the journal; if a
crash comes in between, by the next process that starts.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable

from typing_extensions import NotRequired, TypedDict

from statestream.chat.chats import exists, missing, owner_in, owner_of, state_of
from statestream.chat.members import participants_of, person_key, subject_of
from statestream.chat.messages import streaming
from statestream.chat.replies.ends import STOPPED, end_reply
from statestream.chat.slices import archive, conversation, erasures, listing
from statestream.chat.slices.conversation import name_of, optional
from statestream.core.errors import Refused, VersionConflict
from statestream.core.principal import Identity
from statestream.store.view import StoreView

log = logging.getLogger("statestream")


class PeopleAnswer(TypedDict):
    """The subjects of those who belong to a chat."""

    owner: NotRequired[str]
    participants: list[str]


class People:
    """The owners and participants of the chats of one store. `by` is the person on whose behalf a chat is changed.

    `view` is the server's own. `delete_files` deletes the files of a chat.
    """

    def __init__(self, view: StoreView, delete_files: Callable[[str], Awaitable[None]]) -> None:
        self._view, self._delete_files = view, delete_files

    async def of(self, key: str) -> PeopleAnswer:
        """The subjects: `owner`, if there is one, and `participants`."""
        state = await self._view.complete(lambda: state_of(self._view, key))
        found: PeopleAnswer = {"participants": [subject_of(person) for person in participants_of(state)]}
        if (owner := owner_in(state)) is not None:
            found["owner"] = subject_of(owner)
        return found

    async def invite(self, key: str, subject: str, *, by: Identity | None = None) -> None:
        """Makes a person a participant. Raises NotFound, Refused, Malformed."""
        if not exists(self._view, key):
            raise missing()
        entry = await self._view.complete(lambda: listing.entry_of(self._view, key))
        owner = optional(user=await self._view.complete(lambda: owner_of(self._view, key)))
        invited = conversation.invited(key, person=person_key(subject), entry=entry, **owner)
        await self._view.on_behalf_of(by).dispatch(invited)
        await correct(self._view, key)

    async def remove(self, key: str, subject: str, *, by: Identity | None = None) -> None:
        """Ends somebody's participation. Raises NotFound, Refused, Malformed."""
        if not exists(self._view, key):
            raise missing()
        await self._view.on_behalf_of(by).dispatch(conversation.removed(key, person=person_key(subject)))

    async def delete(self, key: str, *, by: Identity | None = None) -> None:
        """Deletes a chat, and ends the reply in progress. Raises Refused."""
        while exists(self._view, key):
            state = await self._view.complete(lambda: self._view.get(name_of(key)))
            if state is None:
                return
            pages = archive.count_pages(self._view, key)
            deleted = conversation.deleted(key, pages=pages, **optional(user=owner_in(state.value)))
            lists = [listing.unlisted(person, chat=key) for person in participants_of(state.value)]
            actions = [deleted, *archive.erasing(self._view, key), *lists]
            try:
                await self._view.on_behalf_of(by).dispatch(actions, expect={name_of(key): state.version})
            except VersionConflict:
                await self._quieten(key)
            else:
                await self._erase(key)
                return

    async def erase_deleted(self) -> None:
        """Erases the chats that were deleted by a process that ended before it could erase them."""
        for key in erasures.pending(self._view):
            await self._erase(key)

    async def _erase(self, key: str) -> None:
        """Erases a deleted chat. A journal that cannot erase has it in its history for as long as it keeps that."""
        names = await self._view.complete(lambda: erasures.names_left(self._view, key))
        if not names:
            return
        await self._delete_files(key)
        try:
            await self._view.erase(names)
        except Refused:
            log.info("the journal cannot erase a deleted chat")
        await self._view.dispatch(erasures.erased(key))

    async def _quieten(self, key: str) -> None:
        """Ends the reply in progress, which changes the chat all the time."""
        await self._view.caught_up()
        reply = streaming(await self._view.complete(lambda: state_of(self._view, key)))
        if reply is not None:
            with contextlib.suppress(Refused):  # it has ended
                await end_reply(self._view, key, reply["id"], STOPPED)


async def correct(view: StoreView, key: str) -> None:
    """Corrects the lists of participants who were invited at the moment of an update."""
    while corrections := await view.complete(lambda: listing.correcting(view, key)):
        for action, expect in corrections:
            with contextlib.suppress(VersionConflict):
                await view.dispatch(action, expect=expect)
