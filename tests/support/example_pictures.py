"""Takes the pictures of the examples: python -m tests.support.example_pictures

Invariants: no test. Each picture shows its example in use, and `examples.png` all of them.
"""

from __future__ import annotations

import base64
import math
import random
import shutil
import tempfile
from pathlib import Path

import statestream
from tests.support.examples import PAGES, Window, copy_of, example, react_chat
from tests.support.node import Node
from tests.support.paths import ROOT
from tests.support.server import Server

IMAGES = ROOT / "docs/images"
SIZE = {"width": 1100, "height": 740}
CARDS = {
    "Write the announcement": "todo",
    "Choose a name for the mascot": "todo",
    "Translate the onboarding e-mails into Polish and Portuguese": "todo",
    "Measure start-up time on old phones": "doing",
    "Draw the icons": "doing",
    "Review the accessibility of the sign-up form": "review",
    "Set up the status page": "done",
    "Book the venue": "done",
    "Invite the speakers": "done",
}
EVENT = {
    "title": "Summer party",
    "host": "Grace",
    "date": "2027-06-18",
    "guests": "48",
    "stage": "Planned",
    "summary": "Dinner in the garden from six, a band from eight. If it rains, we move into the barn.",
}


def dashboard(browser: Node, folder: Path) -> Window:
    """Two minutes of a machine that does not exist."""
    program = copy_of("dashboard", folder / "dashboard")
    back = '"at": action.at - (119 - len(state["samples"])) * 1000,'  # a second between two samples
    program.write_text(program.read_text().replace('"at": action.at,', back))
    chance = random.Random(4)

    def wave(second: int, period: float, shift: float) -> float:
        return max(0.0, math.sin(second / period + shift) + chance.random() / 2)

    with Server("serve", f"{program}:app") as server:
        with statestream.connect_sync(server.url, slices=["host"]) as stream:
            about = {"name": "build-7.example.org", "cores": 8, "memory": 33_500_000_000}
            stream.dispatch("host/started", about)
            for second in range(120):
                figures = {
                    "cpu": 12 + 30 * wave(second, 9, 0),
                    "memory": 41 + second / 12 + chance.random(),
                    "received": 4e5 + 2.4e6 * wave(second, 7, 1),
                    "sent": 1e5 + 8e5 * wave(second, 11, 3),
                    "read": 5e5 * wave(second, 3, 2) ** 3,
                    "written": 2e6 * wave(second, 5, 0) ** 2,
                }
                stream.dispatch("host/sampled", {"figures": figures})
        window = Window(browser, server.url, **SIZE).live()
        window.wait("document.querySelectorAll('circle').length === 6")
        return pictured(window, "dashboard")


def board(browser: Node, folder: Path) -> Window:
    with example("board", folder) as server:
        with statestream.connect_sync(server.url, slices=["board"]) as stream:
            for number, (title, column) in enumerate(CARDS.items()):
                stream.dispatch("board/card_added", {"id": str(number), "title": title})
                stream.dispatch("board/card_moved", {"id": str(number), "column": column})
        window = Window(browser, server.url, **SIZE, theme="dark").live()
        window.wait(f"document.querySelectorAll('#columns li').length === {len(CARDS)}")
        window.do("press", target="[data-id='4'] button", key="ArrowUp")
        return pictured(window, "board")


def form(browser: Node, folder: Path) -> Window:
    with (
        example("form", folder) as server,
        statestream.connect_sync(server.url, slices=["form"]) as stream,
    ):
        for field, value in EVENT.items():
            stream.dispatch("form/written", {"field": field, "value": value, "id": "2", "by": "Grace"})
        window = Window(browser, server.url, **SIZE).live()
        window.do("fill", target="#you", text="Linus")
        window.do("fill", target="#host", text="Linus and Grace")
        window.wait("document.querySelector('#status').textContent === 'Live'")
        ada = {"id": "1", "name": "Ada", "hue": 330, "editing": "summary"}
        grace = {"id": "2", "name": "Grace", "hue": 150, "editing": "host"}
        stream.dispatch("people/seen", ada | {"pointer": {"area": "summary", "x": 0.55, "y": 0.55}})
        stream.dispatch("people/seen", grace | {"pointer": {"area": "stage", "x": 0.3, "y": 0.45}})
        stream.dispatch("form/written", {"field": "host", "value": "Grace Hopper", "id": "2", "by": "Grace"})
        window.wait("document.querySelectorAll('#pointers b').length === 2")
        window.wait("document.querySelector('#host-note').textContent")
        return pictured(window, "form")


def chat(browser: Node, folder: Path) -> Window:
    with react_chat(folder) as server:
        ada, ben = (Window(browser, server.url, **SIZE) for _ in range(2))
        for window, name in ((ada, "Ada"), (ben, "Ben")):
            window.wait("document.querySelector('#name')")
            window.do("say", field="#name", text=name)
        for question in ("What happens if I close this tab?", "What does the journal do?"):
            ada.look("void (location.hash = '')")
            ada.wait("document.querySelector('h2')?.textContent === 'New chat'")
            ada.do("say", field="textarea", text=question)
            ada.wait("document.querySelector('.assistant.complete')")
        ben.look(f"void (location.href = '{ada.look('location.href')}')")
        ada.wait("document.querySelectorAll('.people li').length === 2")
        ben.do("say", field="textarea", text="And can two people see a reply grow at the same time?")
        ada.wait("document.querySelector('li.streaming')?.textContent.length > 150")
        return pictured(ada, "react-chat")


def pictured(window: Window, name: str) -> Window:
    window.wait("document.getAnimations().every(({ playState }) => playState !== 'running')")
    window.do("picture", path=str(IMAGES / f"example-{name}.png"))
    return window


def together(browser: Node) -> None:
    """All four, half as large, on one picture."""
    data = [base64.b64encode((IMAGES / f"example-{name}.png").read_bytes()).decode() for name in PAGES]
    images = "".join(f"<img src='data:image/png;base64,{each}'>" for each in data)
    style = "body{margin:0;padding:16px;display:grid;grid-template-columns:1fr 1fr;gap:16px;background:#8a93a3}"
    page = Window(browser, "about:blank", width=1200, height=800)
    page.look(f"void (document.body.innerHTML = {f'<style>{style}img{{width:100%}}</style>{images}'!r})")
    page.wait("[...document.images].every(({ complete }) => complete)")
    page.do("resize", width=1200, height=int(page.look("document.body.offsetHeight")))
    page.do("picture", path=str(IMAGES / "examples.png"))


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as folder,
        Node("browser.mjs", str(shutil.which("chromium"))) as chromium,
    ):
        for take in (dashboard, board, form, chat):
            take(chromium, Path(folder))
        together(chromium)
