"""`useChat` and the other hooks for chats in Chromium, with the oldest React that they support and with the newest one.

See test_react.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest

from tests.support.browser import Tab, text_is
from tests.support.chats import ask, invite, new_chat
from tests.support.hooked import FRAMES, serving, texts
from tests.support.node import Node
from tests.support.provider import open_gate, script

pytestmark = pytest.mark.slow


async def say(tab: Tab, text: str) -> None:
    tab.do("say", field="input[name=text]", text=text)


async def test_a_token_draws_one_component_once_per_frame(
    browser: Node, production: Path, upstream: str, gate: str, http: aiohttp.ClientSession
) -> None:
    first = await script(http, upstream, "One?", {"say": "First."}, {"finish": "stop"})
    steps = [{"say": "begun "}, {"wait": gate}, {"drip": {"text": "word ", "times": 120, "every": 0.004}}]
    second = await script(http, upstream, "Two?", *steps, {"wait": f"{gate}-end"}, {"finish": "stop"})
    with serving(production, UPSTREAM=f"{upstream}/v1") as server:
        chat = await new_chat(http, server)
        await ask(http, server, chat, first)
        tab = Tab(browser, "page", f"{server.url}/?show=chat&chat={chat}")
        tab.wait("document.querySelectorAll('li.complete').length === 2")
        tab.do("say", field="input", text=second)
        tab.wait("document.querySelector('li.streaming')?.textContent === 'begun '")
        tab.look(FRAMES)
        before = tab.look("({ ...renders })")
        await open_gate(http, upstream, gate)
        tab.wait(f"document.querySelector('li.streaming')?.textContent === 'begun ' + {json.dumps('word ' * 120)}")
        after, most, passed = tab.look("[renders, most, frames]")
        drawn = {name: after[name] - before[name] for name in after if after[name] != before[name]}
        [(name, times)] = drawn.items()
        assert name.startswith("message ")
        assert most == 1
        assert 2 <= times <= passed
        print(f"120 tokens: {times} renderings of one component in {passed} frames")
        tab.do("click", target="#all")  # from here on, this component reads the messages
        tab.wait(text_is("#texts", "One?|First.|Two?|begun " + "word " * 120))
        await open_gate(http, upstream, f"{gate}-end")
        tab.wait("document.querySelectorAll('li.complete').length === 4")
        assert tab.close() == []


async def test_every_viewer_sees_the_reply_grow(
    browser: Node, pages: Path, upstream: str, gate: str, http: aiohttp.ClientSession
) -> None:
    steps = [{"say": "It "}, {"wait": gate}, {"say": "grows."}, {"finish": "stop"}]
    question = await script(http, upstream, "Grow?", *steps)
    with serving(pages, UPSTREAM=f"{upstream}/v1") as server:
        chat = await new_chat(http, server)
        tabs = [Tab(browser, name, f"{server.url}/?show=chat&chat={chat}") for name in ("left", "right")]
        for tab in tabs:
            tab.wait(text_is("output", "ready"))
        tabs[0].do("say", field="input", text=question)
        for tab in tabs:
            tab.wait(f"{texts('output', '.user', '.assistant')}.join('|') === 'streaming|Grow?|It '")
        await open_gate(http, upstream, gate)
        for tab in tabs:
            tab.wait(f"{texts('output', '.user', '.assistant')}.join('|') === 'ready|Grow?|It grows.'")
            assert tab.close() == []


async def test_a_chat_is_started_stopped_edited_answered_again_and_branched(
    browser: Node, pages: Path, upstream: str, http: aiohttp.ClientSession
) -> None:
    begun = await script(http, upstream, "Begin?", {"say": "So far"}, {"wait": "never"})
    again = await script(http, upstream, "Better?", {"say": "Better."}, {"finish": "stop"})
    with serving(pages, UPSTREAM=f"{upstream}/v1") as server:
        tab = Tab(browser, "page", f"{server.url}/?show=chat&simple=yes")
        assert tab.wait("chat?.status === 'ready'")
        tab.do("say", field="input", text=begun)
        tab.wait("chat.status === 'streaming' && chat.messages[1]?.text === 'So far'")
        busy = tab.look("chat.send('Now?').catch(({ code, reason }) => [code, reason])")
        assert busy == ["refused", "busy"]
        tab.look("chat.stop()")
        tab.wait("chat.messages[1].status === 'stopped'")
        tab.look(f"chat.edit(chat.ids[0], {json.dumps(again)})")
        tab.wait("chat.messages[1]?.text === 'Better.' && chat.status === 'ready'")
        assert tab.look("chat.messages.map(({ siblings }) => siblings.length)") == [2, 1]
        tab.look("chat.regenerate()")
        tab.wait("chat.messages[1]?.siblings.length === 2 && chat.status === 'ready'")
        tab.look("chat.branch(chat.messages[0].siblings[0])")
        tab.wait("chat.messages[1]?.text === 'So far'")
        assert tab.look("chat.messages.map(({ text }) => text)") == [begun, "So far"]
        tab.look("chat.branch(chat.messages[0].siblings[1])")
        tab.wait("chat.messages[1]?.text === 'Better.'")
        assert all("409" in problem for problem in tab.close())


async def test_older_messages_are_loaded_from_the_archive(
    browser: Node, production: Path, upstream: str, http: aiohttp.ClientSession
) -> None:
    question = await script(http, upstream, "One more?", {"say": "Yes."}, {"finish": "stop"})
    many, shown = 230, "document.querySelectorAll('li').length"
    with serving(production, UPSTREAM=f"{upstream}/v1", MANY=str(many), KEEP="20") as server:
        witness = Tab(browser, "witness", f"{server.url}/?show=chat&chat=long")
        witness.wait(f"{shown} === {many} && document.querySelector('#older') === null")
        witness.do("say", field="input", text=question)
        witness.wait(f"{shown} === {many + 2} && document.querySelector('output').textContent === 'ready'")
        assert witness.wait("document.querySelector('#older') === null"), "nothing that was shown has gone"
        tab = Tab(browser, "late", f"{server.url}/?show=chat&chat=long")
        tab.wait(f"{shown} === 32 && document.querySelector('#older') !== null")
        before = tab.look("({ ...renders })")
        tab.do("click", target="#older")
        tab.wait(f"{shown} === 132")
        after = tab.look("renders")
        assert [after[name] for name in before if name.startswith("message")] == [1] * 32, "each is drawn once"
        assert after["conversation"] == before["conversation"] + 1
        assert "Message 100," in tab.look("document.querySelector('li').textContent")
        tab.do("click", target="#older")
        tab.wait(f"{shown} === {many + 2} && document.querySelector('#older') === null")
        again = await script(http, upstream, "And now?", {"say": "Now, too."}, {"finish": "stop"})
        tab.do("say", field="input", text=again)
        for each in (tab, witness):
            each.wait(f"{shown} === {many + 4} && document.querySelector('li:last-child').textContent === 'Now, too.'")
            assert each.look("renders['message m0']") == 1
            assert each.close() == []


async def test_older_messages_stay_when_another_branch_is_shown(
    browser: Node, production: Path, upstream: str, http: aiohttp.ClientSession
) -> None:
    """Of the branches in the archive, some messages are live again while they are shown, and then leave again."""
    other = await script(http, upstream, "Otherwise?", {"say": "Otherwise."}, {"finish": "stop"})
    with serving(production, UPSTREAM=f"{upstream}/v1", MANY="200", KEEP="60") as server:
        tabs = [Tab(browser, name, f"{server.url}/?show=chat&simple=yes&chat=long") for name in ("first", "late")]
        for tab in tabs:
            tab.wait("globalThis.chat?.ids.length === 200")
        ids = tabs[0].look("chat.ids")
        tabs[0].look(f"chat.edit('m60', {json.dumps(other)})")
        for tab in tabs:
            tab.wait("chat.status === 'ready' && chat.messages.at(-1).text === 'Otherwise.'")
        tabs[1].do("reload")
        tabs[1].wait("globalThis.chat?.messages.at(-1)?.text === 'Otherwise.'")
        assert tabs[0].look("[chat.ids.slice(0, -2), chat.hasOlder]") == [ids[:60], False]
        tabs[0].look("chat.branch('m199')")
        for tab in tabs:
            tab.wait("chat.ids.at(-1) === 'm199'")
        assert tabs[0].look("[chat.ids, chat.hasOlder]") == [ids, False], "nothing that was shown before has gone"
        while tabs[1].look("chat.hasOlder"):
            tabs[1].look("chat.loadOlder()")
        assert tabs[1].look("chat.ids") == ids
        for tab in tabs:
            assert tab.close() == []


async def test_a_chat_that_does_not_exist_is_missing(browser: Node, pages: Path) -> None:
    with serving(pages) as server:
        tab = Tab(browser, "page", f"{server.url}/?show=chat&simple=yes&chat={quote('no/such (chat)')}")
        tab.wait(text_is("output", "missing"))
        assert tab.look("chat.send('Hello?').catch(({ status }) => status)") == 404
        assert all("404" in problem for problem in tab.close())


async def test_people_see_who_is_here_and_who_is_typing(browser: Node, pages: Path, upstream: str) -> None:
    with serving(pages, UPSTREAM=f"{upstream}/v1", AUTH="yes") as server:
        headers = {"Authorization": "Bearer ann"}
        async with aiohttp.ClientSession(headers=headers) as http:
            chat = await new_chat(http, server)
            assert await invite(http, server, chat, "bob s") == 200
        ann, bob = (
            Tab(browser, name, f"{server.url}/?show=people&slices=chat/{chat}&chat={chat}&token={quote(quote(name))}")
            for name in ("ann", "bob s")
        )
        for tab in (ann, bob):
            tab.wait("document.querySelectorAll('#people li').length === 2")
        bob.look("setTyping()")
        ann.wait("document.querySelector('#people').textContent.includes('bob s is typing')")
        bob.look("setTyping(false)")
        ann.wait("!document.querySelector('#people').textContent.includes('typing')")
        assert bob.close() == []
        ann.wait(text_is("#people", "ann"))
        assert ann.close() == []
