"""Makes replies: saves a reply's place, starts its run, and does what follows when it has ended.

After the first exchange, the model is asked for a title of the chat.

Invariants: a place is saved only by a node with a lease, so that other nodes end the reply if this one is lost. The
place and the question are one request. A chat works without a title: if the model fails to give one, the next reply
tries again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from statestream.chat.agents import Task
from statestream.chat.agents.context import Context
from statestream.chat.agents.declared import Agent
from statestream.chat.chats import state_of
from statestream.chat.messages import Message, State, find, path, text_of
from statestream.chat.models import Model, ModelFailed, Turn, provider_of
from statestream.chat.people import correct
from statestream.chat.replies.agent_reader import AgentReader
from statestream.chat.replies.model_calls import answering
from statestream.chat.replies.model_reader import ModelReader
from statestream.chat.replies.quota import Quota
from statestream.chat.replies.reply_run import Job, Reader, ReplyRun
from statestream.chat.replies.reply_tasks import ReplyTasks
from statestream.chat.replies.turns import turns_of
from statestream.chat.settings import Settings
from statestream.chat.slices import archive, conversation, listing, provider, runs, storage
from statestream.chat.slices.conversation import ReplyPayload
from statestream.core.change import Action
from statestream.core.errors import Refused, Unavailable, VersionConflict
from statestream.core.principal import Identity, Principal
from statestream.store.view import StoreView

log = logging.getLogger("statestream")
TITLE_SECONDS: Final = 30.0
MAX_TITLE: Final = 80
SAMPLE: Final = 2_000
"""The characters of each message that the model is given, and of its answer that are looked at."""
MAX_PIECES: Final = 1_000
ANY_MODEL: Final = ""
"""The name of no model. An agent may send its turns to any: all calls in them get ids that every provider accepts."""
PROMPT: Final = (
    "Give the conversation that follows a title of at most six words, in its language. "
    "Answer with the title only, without quotes or a full stop."
)


class ReplyMaker:
    """Makes the replies of a node. `take_lease` returns once the node has a lease."""

    def __init__(
        self,
        view: StoreView,
        settings: Settings,
        tasks: ReplyTasks,
        node: str,
        take_lease: Callable[[], Awaitable[None]],
        quota: Quota,
    ) -> None:
        self._view, self._settings, self._tasks = view, settings, tasks
        self._node, self._take_lease, self._quota = node, take_lease, quota

    async def make(
        self,
        key: str,
        owner: str | None,
        actions: Callable[[ReplyPayload], list[Action]],
        *,
        agent: str | None = None,
        by: Identity | None = None,
        expect: Mapping[str, int] | None = None,
    ) -> str:
        """Dispatches the actions that save the reply's place, and starts its run. Returns the reply's id.

        `agent` is the one that is asked for, `by` the person on whose behalf, `expect` what the actions are based on.
        Completes even if the caller is cancelled: a request that ends in between must not leave a place that is never
        filled. Raises RateLimited, Refused, and Unavailable: then the place may have been saved.
        """
        begin = partial(self._begin, key, owner, actions, self._settings.agents.find(agent), by, expect)
        return await self._tasks.shielded(self._make(begin, None if by is None else by.subject))

    async def _make(self, begin: Callable[[], Awaitable[str]], person: str | None) -> str:
        self._quota.take(person)
        try:
            return await begin()
        except Unavailable:
            raise
        except BaseException:
            self._quota.give_back(person)
            raise

    async def _begin(
        self,
        key: str,
        owner: str | None,
        actions: Callable[[ReplyPayload], list[Action]],
        agent: Agent | None,
        by: Identity | None,
        expect: Mapping[str, int] | None,
    ) -> str:
        await self._take_lease()
        model, view = self._settings.model, self._view.on_behalf_of(by)
        reply: ReplyPayload = {
            "id": secrets.token_hex(6),
            "run": secrets.token_hex(6),
            "node": self._node,
            "model": model.name if agent is None else agent.name,
        }
        job = Job(
            key=key,
            reply=reply["id"],
            maker=reply["model"],
            provider=provider_of(model) if agent is None else None,
            user=owner,
            person=view.principal.subject,
        )
        run = ReplyRun(self._view, job, self._reader(job, agent, by), self._settings.timeouts.total)
        asking = await self._view.complete(lambda: actions(reply))
        try:
            await view.dispatch([*asking, runs.begun(key, reply=reply["id"], node=self._node)], expect=expect)
        except Unavailable:
            # the place may have been saved all the same: then the run ends the reply once the journal is available
            run.stop()
            self._tasks.start(run, partial(self._follow_up, job, run))
            raise
        if find(await self._state(key), reply["id"]) is not None:
            self._tasks.start(run, partial(self._follow_up, job, run))
        return reply["id"]

    async def _state(self, key: str) -> State:
        return await self._view.complete(lambda: state_of(self._view, key))

    def _reader(self, job: Job, agent: Agent | None, by: Identity | None) -> Reader:
        settings, view = self._settings, self._view
        if agent is None:
            turns = partial(view.complete, lambda: self._turns(job, provider_of(settings.model)))
            return ModelReader(settings.model, settings.tools, settings.timeouts, turns, view.slow_calls, job.key)
        # on a server that authenticates, an agent may do what the person may who asks; otherwise what anybody may
        asking = Principal(identity=by, closed=view.guards(conversation.chat_slice))
        task = partial(view.complete, lambda: self._task(job))
        return AgentReader(
            agent, Context(view.seen_by(asking), view, job.key, job.reply), settings.timeouts, task, view.slow_calls
        )

    def _turns(self, job: Job, provider_name: str) -> list[Turn]:
        sent = provider.sent_by(self._view, job.key, provider_name)
        shown = archive.shown_path(self._view, job.key, self._settings.window)
        return turns_of(shown, self._settings.window, job.maker, sent)

    def _task(self, job: Job) -> Task:
        shown = archive.shown_path(self._view, job.key, self._settings.window)
        messages = [message for message in shown if message["id"] != job.reply][-self._settings.window :]
        if not messages:
            raise Refused("unknown_chat", "This chat was deleted.")
        turns = turns_of(shown, self._settings.window, ANY_MODEL, {})
        return Task(chat=job.key, reply=job.reply, question=messages[-1], messages=messages, turns=turns)

    async def _follow_up(self, job: Job, run: ReplyRun) -> None:
        """After a reply: its tokens are counted, old messages move to the archive, what nobody needs any more of opaque
        data and the storage of agents is removed, and the chat gets a title.
        """
        self._quota.used(job.person, run.measurements.usage)
        view, key = self._view, job.key
        actions, expect = await view.complete(lambda: archive.archiving(view, key, self._settings.keep))
        if actions:
            with contextlib.suppress(Refused, VersionConflict):  # the chat has changed: the next reply tries again
                await self._view.dispatch(actions, expect=expect)
        if forgetting := await view.complete(lambda: self._forgetting(key)):
            await view.dispatch(forgetting)
        await correct(self._view, job.key)
        if self._settings.titles:
            await self._give_title(job)
            await correct(self._view, job.key)

    def _forgetting(self, key: str) -> list[Action]:
        view, live = self._view, state_of(self._view, key)["messages"]
        shown = archive.shown_path(view, key, self._settings.window)  # the model is sent archived ones as well
        kept = storage.forgetting(view, key, [message["id"] for message in live])
        return [*provider.forgetting(view, key, [*live, *shown]), *kept]

    async def _give_title(self, job: Job) -> None:
        state = await self._state(job.key)
        reply = find(state, job.reply)
        if "title" in state or reply is None or reply["status"] != "complete":
            return
        title = await self._title(path(state)[:2], job.key)
        if title is not None:
            titled = conversation.titled(job.key, title=title, **conversation.optional(user=job.user))
            updating = await self._view.complete(lambda: listing.updating(self._view, job.key, title=title))
            with contextlib.suppress(Refused):  # the chat was deleted
                await self._view.dispatch([titled, *updating])

    async def _title(self, exchange: Sequence[Message], key: str) -> str | None:
        """The model is asked only if it makes the replies, or the application has chosen it for this."""
        if self._settings.agents and not self._settings.chosen:
            return _first_words(exchange[0]) or None
        turns = [Turn(role=message["role"], text=text_of(message)) for message in exchange]
        return await title_of(turns, self._settings.model, key)


def _first_words(question: Message) -> str:
    """A title for a chat whose replies an agent makes, if there is no model to ask for one."""
    words = " ".join(text_of(question)[:SAMPLE].split())
    return words if len(words) <= MAX_TITLE else words[:MAX_TITLE].rpartition(" ")[0] or words[:MAX_TITLE]


async def title_of(turns: Sequence[Turn], model: Model, chat: str) -> str | None:
    """A title for the conversation; None if the model did not give one."""
    try:
        answer = await _answer(turns, model, chat)
    except (ModelFailed, TimeoutError) as error:
        log.info("the chat got no title: %s", type(error).__name__)
        return None
    except Exception:
        log.exception("the model %s raised an unexpected exception", model.name)
        return None
    if answer is None:
        return None
    title = " ".join(answer[:SAMPLE].encode(errors="replace").decode().split()).strip("\"'“”.")
    return title[:MAX_TITLE] or None


async def _answer(turns: Sequence[Turn], model: Model, chat: str) -> str | None:
    """What the model answers; None if that is far too much for a title, and may never end."""
    conversation = "\n\n".join(f"{turn.role}: {turn.text[:SAMPLE]}" for turn in turns)
    request = [Turn(role="system", text=PROMPT), Turn(role="user", text=conversation)]
    pieces: list[str] = []
    async with asyncio.timeout(TITLE_SECONDS), answering(model, request, [], chat=chat) as answer:
        async for piece in answer:
            pieces.append(piece if isinstance(piece, str) else "")
            if len(pieces) == MAX_PIECES:
                return None
    return "".join(pieces)
