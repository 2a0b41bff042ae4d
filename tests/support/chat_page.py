"""Windows on the chat page, and what a person would do there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.browser import Tab, text_is
from tests.support.node import Node
from tests.support.paths import ROOT
from tests.support.server import Server

TALKATIVE = f"{ROOT / 'tests/apps/talkative.py'}:app"
LAST = "document.querySelector('#messages > .assistant.last')"


def talkative(folder: Path | None = None, **env: str) -> Server:
    """A server of the chat page. With a folder, its journal is a file there, so that it may be stopped and killed."""
    journal = {} if folder is None else {"JOURNAL": f"sqlite:///{folder / 'chat.db'}"}
    return Server("serve", TALKATIVE, env={"PYTHONPATH": str(ROOT), **journal, **env})


class ChatPage(Tab):
    """A window on the chat page. `who` is the name of its person; by default, the page invents one."""

    def __init__(
        self, browser: Node, name: str, url: str, *, beside: Tab | None = None, who: str | None = None, **look: Any
    ) -> None:
        self.browser, self.name = browser, name
        cookie = None if who is None else {"name": "guest", "value": who}
        self.do("open", url=url, beside=None if beside is None else beside.name, cookie=cookie, **look)
        self.live()

    def live(self) -> None:
        self.wait(f"{text_is('#status', 'Live')} && document.querySelector('#loading').hidden")

    def afresh(self) -> ChatPage:
        """The same window in a new chat, for the next test."""
        self.do("unplug", offline=False)
        self.look("document.querySelectorAll('dialog[open]').forEach((each) => each.close())")
        self.do("press", key="Control+Shift+O")
        self.wait_for("#welcome")
        self.live()
        self.type("")
        self.look("void (seen.lengths.length = 0)")
        if self.look("document.querySelector('#board').classList.contains('open')"):
            self.click("#close-board")
        self.problems()
        return self

    def type(self, text: str) -> None:
        self.do("fill", target="#message", text=text)

    def send(self, text: str) -> None:
        """Types and sends it, and waits until the chat has it."""
        before = self.look("document.querySelectorAll('#messages > .user').length")
        self.do("say", field="#message", text=text)
        self.wait(f"document.querySelectorAll('#messages > .user').length > {before}")

    def ask(self, text: str) -> str:
        """The same, and waits for the reply. Returns its text."""
        before = self.look("document.querySelectorAll('#messages > .assistant').length")
        self.send(text)
        self.wait(f"document.querySelectorAll('#messages > .assistant').length > {before}")
        return self.reply()

    def reply(self) -> str:
        """The text of the last reply, once it is complete."""
        self.wait(f"{LAST}?.classList.contains('streaming') === false")
        return self.text(f"{LAST}.querySelector('.content')")

    def text(self, script: str) -> str:
        return str(self.look(f"{script}?.textContent ?? ''"))

    def texts(self, selector: str) -> list[str]:
        """The texts of the elements that can be seen."""
        script = f"[...document.querySelectorAll({json.dumps(selector)})].filter((e) => !e.closest('[hidden]'))"
        return list(self.look(f"{script}.map((e) => e.textContent)"))

    def wait_for(self, selector: str, text: str = "") -> None:
        """Until an element that can be seen contains a text."""
        script = f"[...document.querySelectorAll({json.dumps(selector)})].filter((e) => e.checkVisibility())"
        self.wait(f"{script}.some((e) => e.textContent.includes({json.dumps(text)}))")

    def is_gone(self, selector: str) -> None:
        self.wait(f"![...document.querySelectorAll({json.dumps(selector)})].some((e) => e.checkVisibility())")

    def click(self, target: str) -> None:
        self.do("click", target=target)

    def growing(self, times: int = 3) -> None:
        self.wait(f"seen.lengths.length >= {times} && {LAST}?.classList.contains('streaming')")

    @property
    def field(self) -> str:
        return str(self.look("document.querySelector('#message').value"))

    @property
    def chat(self) -> str:
        return str(self.look("chat.talk.id"))

    @property
    def url(self) -> str:
        return str(self.look("location.href"))

    def events(self, name: str) -> list[Any]:
        return [event for event in self.look("seen.events") if event["name"] == name]

    def problems(self) -> list[str]:
        """What the browser has complained about since the last look."""
        return list(self.do("problems"))

    def ends_well(self) -> None:
        assert self.look("globalThis.taken ?? null") is None
        assert self.close() == []
