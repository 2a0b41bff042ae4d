"""Tool calls that wait: for people who approve them, or for windows that run them.

Invariants: a call is settled once. Repeating what was done before changes nothing. What is checked here is checked
again by the action, against the state in which it takes effect.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from statestream.chat.approvals import UNKNOWN, Decision, ToolAnswer, parsed_id
from statestream.chat.decisions import answer_payloads, check_role, is_known, payloads_of
from statestream.chat.messages import Message, State, waiting
from statestream.chat.replies.deciding import Made
from statestream.chat.replies.reply_maker import ReplyMaker
from statestream.chat.settings import Settings
from statestream.chat.slices import approvals
from statestream.chat.slices.approvals import DecisionPayload
from statestream.core.errors import Malformed, NotFound, Refused
from statestream.core.principal import Identity
from statestream.store.view import StoreView

Find = Callable[[str], Awaitable[State]]


class WaitingCalls:
    """The calls that wait in the chats of a store.

    `existing` gives a chat's committed state, or raises NotFound; `current` gives it as the journal has it.
    """

    def __init__(self, view: StoreView, settings: Settings, maker: ReplyMaker, existing: Find, current: Find) -> None:
        self._view, self._settings, self._maker = view, settings, maker
        self._existing, self._current = existing, current

    async def decide(self, key: str, decisions: Sequence[Decision], *, by: Identity | None = None) -> str:
        """Decides about tool calls that wait for approval, all or none. Returns the id of their reply.

        With the last decision, the reply continues. Repeating decisions changes nothing. Raises NotFound, Malformed,
        Forbidden if somebody with another role has to decide, and Refused: with the code `decided` if somebody has
        decided otherwise, with `not_waiting` if the reply does not wait, with `unfit_arguments` for arguments that the
        tool cannot take.
        """
        return await self.settle(key, decisions=decisions, by=by)

    async def settle(
        self,
        key: str,
        *,
        decisions: Sequence[Decision] = (),
        answers: Sequence[ToolAnswer] = (),
        window: str | None = None,
        by: Identity | None = None,
    ) -> str:
        """Saves decisions about tool calls and results of front-end tools, all or none. Returns the reply's id.

        `window` is the window that has claimed the calls. Raises what `decide` raises, and Refused with the code
        `claimed` if another window has claimed one of them.
        """
        state = await self._existing(key)
        ids = [*(decision.id for decision in decisions), *(answer.id for answer in answers)]
        if waiting(state) is None or not all(is_known(state, id) for id in ids):  # this node may be behind
            state = await self._current(key)
        reply, made = self._made(state, decisions, answers, window, by)
        if made:
            try:
                await self._maker.decide(key, reply["id"], made, by=by)
            except Refused:  # somebody may have done the same at the same time
                if self._made(await self._existing(key), decisions, answers, window, by)[1]:
                    raise
        return str(reply["id"])

    def _made(
        self,
        state: State,
        decisions: Sequence[Decision],
        answers: Sequence[ToolAnswer],
        window: str | None,
        by: Identity | None,
    ) -> tuple[Message, Made]:
        """The reply, and which of these are new. Raises NotFound, Malformed, Forbidden, Refused."""
        known = [payloads_of(state, decisions, by)] if decisions else []
        given = [answer_payloads(state, answers)] if answers else []
        replies = [reply for reply, _ in (*known, *given)]
        if not replies or any(reply is not replies[0] for reply in replies):
            raise Malformed("expected decisions and results for tool calls of one reply")
        made = Made(decisions=known[0][1] if known else (), answers=given[0][1] if given else (), window=window)
        for payload in made.decisions:
            self._check_edited(replies[0], payload, by)
        return replies[0], made

    def _check_edited(self, reply: Message, payload: DecisionPayload, by: Identity | None) -> None:
        if "arguments" in payload and not self._settings.agents:  # an agent knows its tools itself
            name, arguments = reply["parts"][payload["part"]]["name"], payload["arguments"]
            self._settings.tools.check(name, arguments)
            needed = self._settings.tools.needs(name, arguments)  # may depend on them
            check_role(by, None if needed is None else needed.role)

    async def claim(self, key: str, id: str, window: str, *, by: Identity | None = None) -> None:
        """Lets a window claim a call of a front-end tool for 30 seconds, by the id of its offer.

        Raises NotFound, and Refused: with the code `claimed` while another window has it, and with `answered` if the
        call already has a result.
        """
        state = await self._existing(key)
        if not is_known(state, id):
            state = await self._current(key)
        if not is_known(state, id):
            raise NotFound(UNKNOWN)
        reply, part = parsed_id(id)
        claimed = approvals.claimed(key, reply=reply, part=part, window=window)
        await self._view.on_behalf_of(by).dispatch(claimed)
