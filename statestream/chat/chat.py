"""A chat as part of an application: its settings, its slices, and its routes.

    chat = Chat(model=DemoModel())
    store = Store([board, *chat.slices])
    app = create_app(store)
    chat.setup(app)

Invariants: assembly only. Nothing below the chat imports it.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeVar, get_args, overload

from aiohttp import web
from prometheus_client.metrics_core import Metric

from statestream.chat.agents.declared import Agents
from statestream.chat.blobs import Blobs
from statestream.chat.blobs.default import default_blobs
from statestream.chat.conversations import Conversations
from statestream.chat.files import Files
from statestream.chat.identity import presence_observer
from statestream.chat.mcp.server import ServerNeeds, ToolServer
from statestream.chat.mcp.transport import Target
from statestream.chat.models import TEMPORARY, Model
from statestream.chat.models.default import default_model
from statestream.chat.models.settings import ModelSettings
from statestream.chat.nodes.lease import nodes_slice
from statestream.chat.nodes.presence import presence_slice
from statestream.chat.operators.routes import routes as operators_routes
from statestream.chat.prices import UNIT, Budget, Price
from statestream.chat.protocols import routes
from statestream.chat.replies.measurements import ENDS, Totals
from statestream.chat.replies.quota import Quota
from statestream.chat.replies.run_queue import RunQueue
from statestream.chat.replies.tools import Needs, Tools
from statestream.chat.rules import RULES
from statestream.chat.settings import Concurrency, Settings, Timeouts, WhileBusy
from statestream.chat.shared_state import SharedState
from statestream.chat.slices.archive import archive_slice
from statestream.chat.slices.conversation import chat_slice
from statestream.chat.slices.deleted_chats import deleted_slice
from statestream.chat.slices.erasures import erasures_slice
from statestream.chat.slices.kept_files import kept_files_slice
from statestream.chat.slices.later import later_slice
from statestream.chat.slices.listing import chats_slice
from statestream.chat.slices.membership import people_slice
from statestream.chat.slices.provider import provider_slice
from statestream.chat.slices.runs import runs_slice
from statestream.chat.slices.storage import storage_slice
from statestream.chat.slices.uploads import uploads_slice
from statestream.chat.slices.waits import waits_slice
from statestream.core.principal import SERVER
from statestream.core.slices import ActionCreator, Slice
from statestream.core.values import check_settings
from statestream.server.authentication import AUTH
from statestream.server.contract import add_routes
from statestream.server.limits import DAY_SECONDS, LIMITED, LIMITS, per
from statestream.server.metrics import COUNTED, counter, gauge, histogram
from statestream.server.request import STORE
from statestream.server.stream import STREAM_OBSERVERS
from statestream.server.tickets import PASSES
from statestream.store.store import Store

WINDOW: Final = 20
KEEP: Final = 500
RETRIES: Final = 3
LEASE_SECONDS: Final = 10.0

F = TypeVar("F", bound=Callable[..., Any])
A = TypeVar("A", bound=ActionCreator[...])
_MISSING: Final[Any] = object()


class Chat:
    """Conversations with a model or with agents, which many people share.

    `model` answers if no agent is declared, and gives titles; None: `default_model()`, which gives titles to its own
    replies only. `settings`: what the model receives besides the conversation, such as instructions. `window`: the
    number of newest messages that the model is given. `keep`: the number of messages that a chat holds live; older ones
    move to the archive, beginning with messages that are not shown. `lease`: the seconds after which other processes
    consider a process that has died lost, and end its replies. `titles`: whether the server asks the model for a title
    after the first exchange. `files`: which files people can post, and agents can send. `blobs`: where files are kept;
    None: beside the journal if that is a file of SQLite, in a temporary folder if it is in memory. `concurrency`: how
    many replies a process makes at once. `while_busy`: whether the server refuses or queues a question that somebody
    asks while a reply is unfinished. `retries`: how often the server repeats a request to a model that fails before the
    first piece of its answer. `prices`: what a million tokens cost, by the names of models and agents. `budget`: how
    much one reply may use.
    """

    def __init__(
        self,
        *,
        model: Model | None = None,
        settings: ModelSettings | None = None,
        timeouts: Timeouts | None = None,
        window: int = WINDOW,
        keep: int = KEEP,
        lease: float = LEASE_SECONDS,
        titles: bool = True,
        files: Files | None = None,
        concurrency: Concurrency | None = None,
        while_busy: WhileBusy = "refuse",
        retries: int = RETRIES,
        prices: Mapping[str, Price] | None = None,
        budget: Budget | None = None,
        blobs: Blobs | None = None,
    ) -> None:
        if not all(isinstance(price, Price) for price in (prices or {}).values()):
            raise TypeError("expected `prices` to be a Price(input=…, output=…) by the name of each model")
        if not isinstance(retries, int) or retries < 0:
            raise ValueError(f"expected `retries` to be 0 or more, got {retries!r}")
        if while_busy not in get_args(WhileBusy):
            raise ValueError(f'expected `while_busy` to be "refuse" or "queue", got {while_busy!r}')
        _check(model, settings, timeouts, window=window, keep=keep, lease=lease)
        self.slices: Sequence[Slice] = (
            chat_slice,
            people_slice,  # before the lists: at the position where somebody has a chat in their list, they may read it
            chats_slice,
            archive_slice,
            provider_slice,
            storage_slice,
            runs_slice,
            waits_slice,
            later_slice,
            uploads_slice,
            kept_files_slice,
            deleted_slice,
            erasures_slice,
            presence_slice,
            nodes_slice,
        )
        self._tools, self._agents, self._shared = Tools(), Agents(), SharedState()
        self._blobs = blobs
        self._servers: list[ToolServer] = []
        self._settings = Settings(
            model=model or default_model(),
            chosen=model is not None,
            asking=settings or ModelSettings(),
            agents=self._agents,
            tools=self._tools,
            servers=self._servers,
            timeouts=timeouts or Timeouts(),
            window=window,
            keep=keep,
            lease=lease,
            titles=titles,
            files=files or Files(),
            shared=self._shared,
            concurrency=concurrency or Concurrency(),
            while_busy=while_busy,
            retries=retries,
            prices=dict(prices or {}),
            budget=budget or Budget(),
        )

    @overload
    def tool(self, function: F) -> F: ...
    @overload
    def tool(self, *, approval: Needs) -> Callable[[F], F]: ...
    @overload
    def tool(self, *, frontend: Literal[True]) -> Callable[[F], F]: ...
    def tool(self, function: Any = _MISSING, *, approval: Needs = _MISSING, frontend: bool = False) -> Any:
        """Declares a function that the model may call, by its name, its docstring and its annotations.

        Its result, which must be JSON, is shown to people and given to the model. `raise Refused(code, sentence)` gives
        them that sentence instead. A plain function runs in a thread. If the result is awaitable, it is awaited. A
        parameter with the annotation `statestream.chat.agents.context.Context` tells the function who asks, and in
        which chat.

        With `@chat.tool(approval=True)`, a person has to approve each call before it runs. `approval` can also be an
        Approval, which says who decides and until when, or a function that returns one of these for the arguments of a
        call. With `@chat.tool(frontend=True)`, a person's window runs the tool, and the function is never called.
        Raises TypeError if the function cannot be described to a model, or is a generator.
        """
        if frontend and approval is not _MISSING:
            raise TypeError("expected `approval` or `frontend`: the window that runs a tool can ask its person itself")
        if function is not _MISSING:
            return self._tool(False if approval is _MISSING else approval, frontend, function)
        if approval is _MISSING and not frontend:
            raise TypeError("write @chat.tool without parentheses, on the line above the function")
        return partial(self._tool, False if approval is _MISSING else approval, frontend)

    def _tool(self, approval: Needs, frontend: bool, function: F) -> F:
        self._tools.add(function, approval, frontend=frontend)
        return function

    def mcp(
        self,
        name: str,
        *,
        command: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        url: str = "",
        headers: Mapping[str, str] | None = None,
        approval: ServerNeeds = False,
    ) -> None:
        """Declares an MCP server whose tools the model may call. Their names begin with `name` and an underscore.

        Either `command` starts the server as a process, with `env` in its environment, or the server runs at `url`, and
        each request to it has `headers`. The connection lasts as long as the chat runs, and is re-established if it is
        lost. `approval` is the same as for `tool`; a function gets the server's name for the tool before the arguments.
        Raises ImportError without the extra `mcp`, TypeError and ValueError for an invalid server, and ValueError if
        there already is one with that name.
        """
        target = Target(command=command, env=env, url=url, headers=headers)
        server = ToolServer(name, target, approval, lambda: self._tools.by_name.keys())
        if any(each.name == name for each in self._servers):
            raise ValueError(f"there is an MCP server named {name} already")
        self._servers.append(server)
        self._tools.add_source(lambda: server.tools)

    @overload
    def agent(self, function: F) -> F: ...
    @overload
    def agent(self, *, internal: Literal[True]) -> Callable[[F], F]: ...
    def agent(self, function: Any = _MISSING, *, internal: bool = False) -> Any:
        """Declares an agent: an async generator `(task, context)` that yields the pieces of a reply.

        `statestream.chat.agents` describes both. The first agent answers questions that name no agent. Questions cannot
        name an agent that is declared with `@chat.agent(internal=True)`: only other agents and tools run it. Raises
        TypeError for anything else.
        """
        if function is not _MISSING:
            return self._agent(internal, function)
        if not internal:
            raise TypeError("write @chat.agent without parentheses, on the line above the function")
        return partial(self._agent, internal)

    def _agent(self, internal: bool, function: F) -> F:
        self._agents.add(function, internal=internal)
        return function

    def shared_state(self, setter: A = _MISSING) -> A:
        """Lets AG-UI clients set a slice through one of its actions, whose only parameter is `value`.

        Write it above `@board.action`. The rights of the slice apply. Raises TypeError for anything else, and
        ValueError if the slice has such an action already.
        """
        if setter is _MISSING:
            raise TypeError("write @chat.shared_state without parentheses, above the decorator of an action")
        self._shared.add(setter)
        return setter

    def conversations(self, store: Store) -> Conversations:
        """The conversations of a store that has `slices`, for programs without a server. Use them as `async with`."""
        return self._conversations(store, Quota(), Counter())

    def _conversations(self, store: Store, quota: Quota, limited: Counter[str]) -> Conversations:
        queue = RunQueue(self._settings.concurrency, limited)
        return Conversations(
            store.view(SERVER), self._settings, quota, queue, lambda: self._blobs or default_blobs(store.journal)
        )

    def setup(self, app: web.Application) -> Conversations:
        """Adds the chat's routes to an application of `create_app` whose store has `slices`.

        Returns the conversations, which the application's own code can use while the server runs: no right limits it.
        If the application authenticates, each chat is for those who belong to it; otherwise, all are everybody's.
        Raises TypeError for anything else, or if shared state has views, and ValueError if the store lacks slices.
        """
        if not isinstance(app, web.Application) or STORE not in app:
            raise TypeError("expected the application that create_app(store) returns")
        missing = [each.name for each in self.slices if not app[STORE].view(SERVER).declares(each)]
        if missing:
            raise ValueError(
                f"expected a store with the chat's slices, as in Store([*chat.slices]); it lacks {', '.join(missing)}"
            )
        self._shared.check()
        if AUTH in app:
            for declared, rule in RULES.items():
                app[STORE].guard(declared, read=rule)
        conversations = self._conversations(app[STORE], _quota(app), app[LIMITED])
        app[COUNTED].append(lambda: _metrics(conversations.totals, conversations.queue))
        added = [*routes(conversations), *operators_routes(conversations)]
        add_routes(app, added)
        app.setdefault(PASSES, []).extend(each.handler for each in added if each.contract.cookie)
        app[STREAM_OBSERVERS].append(presence_observer(conversations.presence))

        async def running(_: web.Application) -> AsyncIterator[None]:
            async with conversations:
                yield

        async def stopping(_: web.Application) -> None:
            await conversations.stop_all()

        app.cleanup_ctx.append(running)
        app.on_shutdown.insert(0, stopping)  # before the streams end, so that viewers see how the replies ended
        return conversations


def _check_answer(answer: Any) -> None:
    """Raises TypeError if a model's `answer` does not take settings."""
    try:
        inspect.signature(answer).bind(None, None, None)
    except TypeError:
        raise TypeError("expected the model's `answer` to take (turns, tools, settings)") from None


def _quota(app: web.Application) -> Quota:
    """Without authentication, anybody can have any name, so there is nobody to limit."""
    if AUTH not in app:
        return Quota()
    limits = app[LIMITS]
    costs = None if limits.cost_per_day is None else per(limits.cost_per_day * UNIT, DAY_SECONDS)
    return Quota(
        per(limits.runs_per_day, DAY_SECONDS),
        per(limits.tokens_per_day, DAY_SECONDS),
        costs,
        per(limits.upload_bytes_per_day, DAY_SECONDS),
        app[LIMITED],
    )


def _metrics(totals: Totals, queue: RunQueue) -> list[Metric]:
    return [
        gauge("replies_running", "Replies that this process makes now.", queue.working),
        gauge("replies_queued", "Replies that wait for their turn in this process.", queue.queued),
        counter("replies", "Replies of this process by how they ended.", totals.ended, "end", ENDS),
        histogram("reply_seconds", "From the start of a reply to its end.", totals.seconds),
        histogram("reply_first_piece_seconds", "From the start of a reply to its first piece.", totals.first_piece),
        histogram("reply_tokens_per_second", "Tokens per second since the first piece.", totals.tokens_per_second),
        histogram("reply_pieces", "Pieces that the model cut a reply into.", totals.pieces),
        counter("model_retries", "Requests to models that were repeated.", totals.retried, "kind", sorted(TEMPORARY)),
        counter("reply_cost", "What replies have cost, in the currency of the prices.", totals.cost, "model"),
        counter("reply_tokens", "Tokens of replies, as they were reported.", totals.tokens, "kind"),
    ]


def _check(model: Any, settings: Any, timeouts: Any, **numbers: float) -> None:
    """Raises TypeError and ValueError for settings that would fail later, when a question is asked."""
    if model is not None and not all(hasattr(model, member) for member in ("name", "answer")):
        hint = f'; for one of OpenAI write OpenAIModel("{model}")' if isinstance(model, str) else ""
        raise TypeError(f"expected `model` to be a model, got {type(model).__name__}{hint}")
    if model is not None:
        _check_answer(model.answer)
    if settings is not None and not isinstance(settings, ModelSettings):
        raise TypeError(f"expected `settings` to be ModelSettings(temperature=…), got {type(settings).__name__}")
    if timeouts is not None and not isinstance(timeouts, Timeouts):
        raise TypeError(f"expected `timeouts` to be Timeouts(total=…), got {type(timeouts).__name__}")
    check_settings(**numbers)
