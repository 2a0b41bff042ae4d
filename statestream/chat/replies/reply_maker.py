"""Makes replies: saves a reply's place, starts its run, and does what follows when it has ended.

If a reply waits, the last decision starts another run, which continues the reply. After the first exchange, the model
is asked for a title for the chat.

Invariants: a place is saved only by a node with a lease, so that other nodes end the reply if this one is lost. The
place and the question are one request, and so are the last decision and the run that follows. A chat works without a
title: if the model fails to give one, the next reply tries again.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from statestream.chat.agents import Task
from statestream.chat.agents.context import Context
from statestream.chat.agents.declared import Agent
from statestream.chat.chats import owner_in, state_of
from statestream.chat.file_keeper import FileKeeper
from statestream.chat.messages import Message, State, find, path, text_of
from statestream.chat.models import Turn, provider_of
from statestream.chat.models.settings import ModelSettings
from statestream.chat.people import correct
from statestream.chat.prices import Spending
from statestream.chat.provisions import NONE, Provisions, with_context
from statestream.chat.replies.agent_reader import AgentReader
from statestream.chat.replies.calls import Call
from statestream.chat.replies.deciding import Continuation, Deciding, Made, approved, deciding
from statestream.chat.replies.model_reader import Asking, ModelReader
from statestream.chat.replies.quota import Quota
from statestream.chat.replies.reply_builder import ReplyBuilder
from statestream.chat.replies.reply_run import Job, Reader, ReplyRun
from statestream.chat.replies.reply_tasks import ReplyTasks
from statestream.chat.replies.retrying import Retrying
from statestream.chat.replies.run_queue import Place, RunQueue
from statestream.chat.replies.sent_files import filled_in, with_files
from statestream.chat.replies.tasks import task_of
from statestream.chat.replies.titles import first_words, title_of
from statestream.chat.replies.turns import turns_of
from statestream.chat.settings import Settings
from statestream.chat.slices import archive, continuations, conversation, listing, provider, queueing, runs, storage
from statestream.chat.slices.approvals import RunPayload
from statestream.chat.slices.conversation import ReplyPayload
from statestream.core.change import Action
from statestream.core.errors import Refused, Unavailable, VersionConflict
from statestream.core.principal import Identity, Principal
from statestream.store.view import StoreView


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
        queue: RunQueue,
        files: FileKeeper,
    ) -> None:
        self._view, self._settings, self._tasks, self._files = view, settings, tasks, files
        self._retrying = Retrying(settings.retries, settings.timeouts.first, tasks.totals.retried_after)
        self._node, self._take_lease, self._quota, self._queue = node, take_lease, quota, queue

    async def make(
        self,
        key: str,
        owner: str | None,
        actions: Callable[[ReplyPayload], list[Action]],
        *,
        agent: str | None = None,
        brought: Provisions = NONE,
        by: Identity | None = None,
        expect: Mapping[str, int] | None = None,
        continues: Message | None = None,
        refusable: bool = True,
    ) -> str:
        """Dispatches the actions that save the reply's place, and starts its run. Returns the reply's id.

        `agent` is the one that is asked for, `by` the person on whose behalf, `expect` what the actions are based on.
        `brought` is what the question brings for this reply. `continues` is a reply that was cut off, with whose parts
        the new one begins. `refusable`: whether it is refused if too many runs wait.
        Completes even if the caller is cancelled: a request that ends in between must not leave a place that is never
        filled. Raises RateLimited, Refused, and Unavailable: then the place may have been saved, unless too many runs
        wait for their turn.
        """
        maker = self._settings.agents.find(agent)
        if maker is not None and brought.settings is not None:
            raise TypeError(f"expected a question without `settings`: {maker.name} chooses those of its own model")
        enter = partial(self._enter, self._name_of(maker), key, by, refusable=refusable)
        begin = partial(self._begin, key, owner, actions, maker, brought, by, expect, continues)
        return await self._tasks.shielded(self._make(enter, begin, None if by is None else by.subject))

    def check_quota(self, by: Identity | None) -> None:
        """Raises RateLimited if this person may have no reply now."""
        self._quota.check(None if by is None else by.subject)

    def _name_of(self, agent: Agent | None) -> str:
        return self._settings.model.name if agent is None else agent.name

    def _enter(self, maker: str, key: str, by: Identity | None, *, refusable: bool = True) -> Place:
        return self._queue.enter(maker, None if by is None else by.subject, key, refusable=refusable)

    async def _make(
        self, enter: Callable[[], Place], begin: Callable[[Place], Awaitable[str]], person: str | None
    ) -> str:
        place = enter()
        try:
            self._quota.take(person)
            try:
                return await begin(place)
            except Unavailable:
                raise
            except BaseException:
                self._quota.give_back(person)
                raise
        except BaseException:
            place.give_back()
            raise

    async def _begin(
        self,
        key: str,
        owner: str | None,
        actions: Callable[[ReplyPayload], list[Action]],
        agent: Agent | None,
        brought: Provisions,
        by: Identity | None,
        expect: Mapping[str, int] | None,
        continues: Message | None,
        place: Place,
    ) -> str:
        await self._take_lease()
        model, view = self._settings.model, self._view.on_behalf_of(by)
        reply: ReplyPayload = {
            "id": secrets.token_hex(6),
            "run": secrets.token_hex(6),
            "node": self._node,
            "model": self._name_of(agent),
        }
        job = Job(
            key=key,
            reply=reply["id"],
            run=reply["run"],
            maker=reply["model"],
            provider=provider_of(model) if agent is None else None,
            user=owner,
            by=by,
            brought=brought,
        )
        builder, more = await self._view.complete(lambda: self._beginning(job, continues))
        run = self._run(job, builder, self._reader(job, agent, {}), place)
        saving = [*await self._view.complete(lambda: actions(reply)), *more]
        saving += [runs.begun(key, reply=reply["id"], node=self._node)]
        saving += [] if place.works else [queueing.queued(key, reply=reply["id"])]
        try:
            await view.dispatch(saving, expect=expect)
        except Unavailable:
            # the place may have been saved all the same: then the run ends the reply once the journal is available
            run.stop()
            self._start(job, run)
            raise
        if find(await self._state(key), reply["id"]) is not None:
            self._start(job, run)
        else:
            place.give_back()
        return reply["id"]

    def _beginning(self, job: Job, continues: Message | None) -> tuple[ReplyBuilder, list[Action]]:
        """The builder of a new reply. If it continues another one, also the action that copies its opaque data.

        Raises NotLoaded.
        """
        if continues is None:
            return ReplyBuilder(job.key, job.reply, job.provider), []
        source, renamed = continues["id"], continues.get("model") != job.maker
        parts = continuations.copied(continues, job.reply, renamed=renamed)
        entries = provider.count_kept(self._view, job.key, source, job.provider, parts)
        builder = ReplyBuilder.beginning_with(job.key, job.reply, [*parts.values()], job.provider, entries)
        copying = [provider.copied(job.key, reply=source, to=job.reply, parts=[*parts])] if entries else []
        return builder, copying

    def _run(
        self, job: Job, builder: ReplyBuilder, reader: Reader, place: Place, before: Message | None = None
    ) -> ReplyRun:
        """`before` is the reply as earlier runs have left it."""
        prices, budget = self._settings.prices, self._settings.budget
        used = () if before is None else (before.get("usage", {}), before.get("cost", 0.0))
        spending = Spending(prices, budget, job.maker, *used)
        return ReplyRun(self._view, job, builder, reader, place, spending, self._settings.timeouts.total)

    def _start(self, job: Job, run: ReplyRun) -> None:
        self._tasks.start(run, partial(self._follow_up, job, run))

    # a reply that has waited

    async def decide(self, key: str, reply: str, made: Made, *, by: Identity | None = None) -> None:
        """Saves decisions about and results of waiting tool calls. After the last one, the reply continues on this
        node.

        Completes even if the caller is cancelled. Raises Refused and Unavailable. After Unavailable, they may have been
        saved.
        """
        await self._tasks.shielded(self._decide(key, reply, made, by))

    async def _decide(self, key: str, reply: str, made: Made, by: Identity | None) -> None:
        await self._take_lease()
        run: RunPayload = {"id": secrets.token_hex(6), "node": self._node}
        while True:
            last = await self._view.complete(lambda: self._deciding(key, reply, made, run, by))
            try:
                await self._view.on_behalf_of(by).dispatch(last.actions, expect=last.expect)
            except VersionConflict:  # somebody else has decided about another call
                continue
            except Unavailable:  # it may have been saved: then the run ends the reply once the journal is available
                if last.then is not None:
                    await self._continue(key, reply, run, last.then, stopping=True)
                raise
            if last.then is not None:
                await self._continue(key, reply, run, last.then)
            return

    def _deciding(self, key: str, reply: str, made: Made, run: RunPayload, by: Identity | None) -> Deciding:
        """Raises Refused if there is no longer a model or an agent that could continue the reply."""
        last = deciding(self._view, key, reply, made, run, by)
        message = find(state_of(self._view, key), reply)
        if last.then is not None and message is not None:
            self._settings.agents.check_continuing(message["model"])
        return last

    async def _continue(
        self, key: str, reply: str, run: RunPayload, then: Continuation, *, stopping: bool = False
    ) -> None:
        """Starts the run that continues a reply. `stopping`: the run may not be the reply's, and only ends it."""
        state = await self._state(key)
        message = find(state, reply)
        if message is None or (not stopping and message["run"]["id"] != run["id"]):
            return  # it was stopped at once
        model, agent = self._settings.model, self._settings.agents.find(message["model"])
        job = Job(
            key=key,
            reply=reply,
            run=run["id"],
            maker=self._name_of(agent),
            provider=provider_of(model) if agent is None else None,
            user=owner_in(state),
            by=then.asker,
            brought=then.brought,
        )
        builder = ReplyBuilder.continuing(key, message, job.provider, then.entries)
        calls = {
            part: (call, self._view.seen_by(self._principal(then.deciders.get(part, then.asker))))
            for part, call in approved(message).items()
        }
        place = self._enter(job.maker, key, then.asker, refusable=False)
        if not place.works:
            builder.queued()
        continuing = self._run(job, builder, self._reader(job, agent, calls), place, message)
        if stopping:
            continuing.stop()
        self._start(job, continuing)

    def _principal(self, by: Identity | None) -> Principal:
        """On a server that authenticates, it may do what that person may do; otherwise, what anybody may do."""
        return Principal(identity=by, closed=self._view.guards(conversation.chat_slice))

    async def _state(self, key: str) -> State:
        return await self._view.complete(lambda: state_of(self._view, key))

    def _reader(
        self,
        job: Job,
        agent: Agent | None,
        calls: Mapping[int, tuple[Call, StoreView]],
    ) -> Reader:
        settings, view = self._settings, self._view
        asker = view.seen_by(self._principal(job.by))
        context = Context(asker, view, self._files, job.key, job.reply, self._retrying)
        context.tools = job.brought.tools
        if agent is not None:
            task = partial(self._task, job)
            return AgentReader(agent, settings.agents, context, settings.timeouts, task, view.slow_calls)
        own = job.brought.settings
        chosen = settings.asking if own is None else settings.asking | own
        return ModelReader(
            settings.model,
            Asking(settings=chosen, tools=job.brought.tools),
            settings.tools,
            settings.timeouts,
            partial(self._turns, job, provider_of(settings.model)),
            view.slow_calls,
            context,
            settings.agents,
            calls,
        )

    async def _turns(self, job: Job, provider_name: str) -> list[Turn]:
        view, window = self._view, self._settings.window
        shown = await self._shown(job)
        sent = await view.complete(lambda: provider.sent_by(view, job.key, provider_name))
        filled = await with_files(self._files, job.key, shown, window)
        said = with_context(filled_in(shown, filled), job.reply, job.brought.context)
        return turns_of(said, window, job.maker, sent)

    async def _task(self, job: Job) -> Task:
        view, window = self._view, self._settings.window
        filled = await with_files(self._files, job.key, await self._shown(job), window)
        return await view.complete(lambda: task_of(view, job.key, job.reply, window, job.brought, filled))

    async def _shown(self, job: Job) -> list[Message]:
        return await self._view.complete(lambda: archive.shown_path(self._view, job.key, self._settings.window))

    async def _follow_up(self, job: Job, run: ReplyRun) -> None:
        """After a reply: its tokens are counted, old messages move to the archive, what nobody needs any more of opaque
        data and the storage of agents is removed, and the chat gets a title.
        """
        self._quota.used(None if job.by is None else job.by.subject, run.measurements.spending)
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
            return first_words(exchange[0]) or None
        turns = [Turn(role=message["role"], text=text_of(message)) for message in exchange]
        headers = ModelSettings(headers=self._settings.asking.headers)  # a title needs nothing else
        return await title_of(turns, self._settings.model, headers, key, self._retrying)
