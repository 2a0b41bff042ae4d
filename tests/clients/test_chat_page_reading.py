"""Reading on the chat page: Markdown, replies that grow or fail, what is hostile, and chats with many messages."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support import Server
from tests.support.browser import LEFT, RIGHT
from tests.support.chat_page import LAST, ChatPage, talkative
from tests.support.node import Node

MANY = 10_000
MARKDOWN = """# Title

Some **bold**, _slanted_ and `code`.

```python
def f(x):
    return "a <b>" + x
```

- one
- [x] two

| a | b |
|---|--:|
| 1 | 2 |

See <https://example.org/x?a=1&b=2>."""
HOSTILE = """<script>globalThis.taken = 1</script><img src=x onerror="globalThis.taken = 2">

<svg onload="taken=3"><a xlink:href="javascript:taken=4">x</a></svg>

[one](javascript:globalThis.taken=5) [two](data:text/html,<script>taken=6</script>) [three](vbscript:x)
[four](JaVaScRiPt:taken=7) [five](&#106;avascript:taken=8)

![a](https://evil.example/pixel.png) ![b](data:image/svg+xml;base64,PHN2Zy8+)
<iframe src="https://evil.example"></iframe>

[__proto__]: javascript:taken=9

[constructor] [__proto__] [six](https://example.org "onmouseover=taken")

```<img src=x onerror=taken=10>
</code></pre><script>taken = 11</script>
```

\u202egnp.exe safe\u2066 \u0000 &#0; &#xd800; &#x110000;
"""

ALIVE = "#messages :is(script, iframe, svg:not(.icon), object, form, style, [onerror], [onload], [onmouseover])"
LISTEN = """globalThis.said = [];
new MutationObserver(() => said.push(document.querySelector('#live').textContent))
  .observe(document.querySelector('#live'), { childList: true, subtree: true, characterData: true });"""
LIVE = """[...document.querySelectorAll('[aria-live], [role=log], [role=status]')]
  .filter((e) => e.contains(document.querySelector('#messages')) || document.querySelector('#messages').contains(e))"""
NUMBERS = "chat.talk.messages.map(({ id }) => id).filter((id) => id.startsWith('m')).map((id) => Number(id.slice(1)))"
AGENT = """async () => {
  const { MessageView } = await import('/js/chat/message.js');
  const parts = [{ type: 'source', url: 'https://example.org/orders/7', title: 'Order 7' },
                 { type: 'source', url: 'javascript:taken=1' }];
  const message = { id: 'a', role: 'assistant', status: 'streaming', text: '', siblings: ['a'], updated_at: 1, parts,
                    run: { id: 'r', status: 'Looking at your orders' } };
  const view = new MessageView(message, { desk: {}, drafts: {}, chat: 'c', mine: false });
  view.update(message, true);
  return { links: [...view.element.querySelectorAll('a')].map((a) => a.href), text: view.element.textContent };
}"""
FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
TOP = "document.querySelector('#messages > li').getBoundingClientRect().top"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with talkative(MANY=str(MANY)) as running:
        yield running


def test_markdown_becomes_elements_and_code_is_highlighted_and_copied(page: ChatPage) -> None:
    page.ask(f"echo {MARKDOWN}")
    shown = f"{LAST}.querySelector('.markdown')"
    tags = page.look(f"[...{shown}.children].map((e) => e.className ? e.className : e.tagName)")
    assert tags == ["rank-1", "P", "code", "UL", "scrolls", "P"]
    page.wait(f"{shown}.querySelector('.hljs-keyword')?.textContent === 'def'")
    code = 'def f(x):\n    return "a <b>" + x'
    assert page.text(f"{shown}.querySelector('.code code')") == code
    assert page.look(f"{shown}.querySelector('a').href") == "https://example.org/x?a=1&b=2"
    assert page.look(f"{shown}.querySelector('a').rel") == "noopener noreferrer"
    page.look("void (navigator.clipboard.writeText = async (text) => (globalThis.copied = text))")
    page.click(".code-head button")
    page.wait("globalThis.copied !== undefined")
    assert page.look("copied") == code
    page.wait("document.querySelector('.code-head button').ariaLabel === 'Copied'")
    assert page.problems() == []


def test_a_growing_reply_parses_its_last_block_only_and_keeps_the_others(page: ChatPage) -> None:
    blocks = "\n\n".join(f"Paragraph {n} " + "word " * 20 for n in range(40))
    page.send(f"echo {blocks}")
    page.wait(f"({LAST}?.querySelectorAll('.markdown > p').length ?? 0) >= 2")
    page.look(f"void (globalThis.first = {LAST}.querySelector('.markdown > p'))")
    page.reply()
    assert page.look("first.isConnected")
    assert page.look(f"{LAST}.querySelectorAll('.markdown > p').length") == 40
    assert page.problems() == []


def test_hostile_text_is_shown_as_text(page: ChatPage, browser: Node, server: Server) -> None:
    page.ask(f"echo {HOSTILE}")
    page.send(f"fail {HOSTILE}")
    page.wait_for(".outcome", "out of order")
    assert page.look(f"document.querySelectorAll({json.dumps(ALIVE)}).length") == 0
    assert page.look("[...document.querySelectorAll('#messages img')].map((e) => e.src)") == []
    links = page.look("[...document.querySelectorAll('#messages .content a')].map((e) => e.protocol)")
    assert set(links) == {"https:"}
    page.do("fill", target="#message", text="")
    evil = ChatPage(browser, RIGHT, page.url, who="<img src=x onerror=taken=12>\u05d0\u05d1")
    evil.send("echo <b>Hi</b>")
    page.wait_for("#messages .who", "<img src=x")
    page.wait_for("#faces")
    page.click("#people")
    page.wait_for("#people-dialog .persons", "<img src=x")
    assert page.look("document.querySelectorAll('#people-dialog img').length") == 0
    evil.reply()
    for window in (page, evil):
        assert window.look("globalThis.taken ?? null") is None
        assert window.look("({}).polluted ?? null") is None
        assert window.problems() == []
    evil.close()


def test_thoughts_and_tools_are_folded_and_stay_as_people_leave_them(page: ChatPage) -> None:
    page.send('use {"title": "From the model"}')
    page.wait(f"{LAST}?.querySelector('.fold.tool') !== null")
    page.click(".fold.thought summary")
    page.reply()
    assert page.look("document.querySelector('.fold.thought').open")
    assert not page.look("document.querySelector('.fold.tool').open")
    page.click(".fold.tool summary")
    page.wait_for(".fold.tool pre", '"title": "From the model"')
    assert page.text("document.querySelector('.fold.tool .fold-state')") == "done"
    page.wait("chat.client.state.board.tasks.some(({ title }) => title === 'From the model')")
    assert page.problems() == []


def test_a_source_is_a_link_and_a_status_shows_while_an_agent_works(page: ChatPage) -> None:
    """They are drawn as an agent's message would be: no agent is needed for this."""
    made = page.look(f"({AGENT})()")
    assert made["links"] == ["https://example.org/orders/7"]
    assert "javascript:taken=1" in made["text"]
    assert "Looking at your orders" in made["text"]
    assert page.problems() == []


def test_a_failed_reply_says_why_offers_a_retry_and_keeps_both_versions(page: ChatPage) -> None:
    page.send("fail please")
    page.wait_for(".outcome", "The provider is out of order.")
    assert page.text(f"{LAST}.querySelector('.content')") == "Half"
    page.click(".last .retry")
    page.wait("document.querySelector('.last .flipper')?.textContent === '2 / 2'")
    assert page.reply() == "please"
    page.do("press", target="[data-flip=back]", key="Enter")
    page.wait_for(".outcome", "out of order")
    assert page.problems() == []


def test_a_screen_reader_is_told_of_a_reply_once(page: ChatPage) -> None:
    page.look(f"{{ {LISTEN} }}")
    assert page.look(f"{LIVE}.length") == 0
    page.ask("count 100")
    page.wait("said.length === 2")
    first, last = page.look("said")
    assert first == "A reply has begun."
    assert last.startswith("scripted replied: 1 2 3 ")


def test_a_screen_reader_is_told_what_others_write(page: ChatPage, browser: Node) -> None:
    page.ask("echo Before")
    other = ChatPage(browser, RIGHT, page.url, who="Ben")
    for each in (page, other):
        each.look(f"{{ {LISTEN} }}")
    other.ask("echo From Ben")
    page.wait("said.at(-1).endsWith('scripted replied: From Ben')")
    told = " ".join(page.look("said"))
    assert told.startswith("Ben wrote: echo From Ben")
    assert "Before" not in told
    other.wait("said.length > 0")
    assert "wrote" not in " ".join(other.look("said")), "people know what they have written"
    page.look("void (said.length = 0)")
    other.click("#messages > .mine [title='Change this message']")
    other.do("fill", target=".editor textarea", text="echo Changed")
    other.click(".editor button.main")
    page.wait("said.at(-1)?.endsWith('scripted replied: Changed')")
    assert page.look("said[0]").startswith("Ben wrote: echo Changed")
    other.close()


def test_older_messages_are_not_read_out(browser: Node, server: Server) -> None:
    page = ChatPage(browser, LEFT, f"{server.url}/#long", who="Ann")
    page.wait_for("#messages > .user")
    page.look(f"{{ {LISTEN} }}")
    before = page.look("document.querySelectorAll('#messages > li').length")
    page.look("void (scroller.scrollTop = 0)")
    page.wait(f"document.querySelectorAll('#messages > li').length > {before}")
    assert page.look("[said, document.querySelector('#live').textContent]") == [[], ""]
    page.close()


def test_the_page_follows_a_reply_only_while_the_reader_is_at_its_end(page: ChatPage) -> None:
    page.ask("echo " + "\n\n".join(f"Line {n}" for n in range(60)))
    at_end = "Math.abs(scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight) < 4"
    page.wait(at_end)
    page.send("count 400")
    page.growing()
    assert page.look(at_end)
    page.look("void (scroller.scrollTop = 100)")
    page.look(FRAMES)
    before = page.look(TOP)
    page.wait_for("#jump")
    lengths = page.look("seen.lengths.length")
    page.wait(f"seen.lengths.length > {lengths} + 2")
    assert abs(page.look(TOP) - before) < 2
    page.click("#jump")
    page.wait(at_end)
    page.is_gone("#jump")
    page.reply()
    page.wait(at_end)


def test_a_chat_of_ten_thousand_messages_opens_at_its_end_and_is_read_back_to_its_beginning(
    browser: Node, server: Server
) -> None:
    page = ChatPage(browser, LEFT, f"{server.url}/#long", who="reader")
    page.wait(f"{LAST}?.textContent.includes('Message {MANY - 1},')")
    assert page.look("chat.talk.messages.length") == MANY
    assert page.look("document.querySelectorAll('#messages > li').length") <= 120
    page.look("void (scroller.scrollTop = 0)")
    page.wait("document.querySelectorAll('#messages > li').length > 60")
    page.ask("echo Now most of them move to the archive")
    page.wait("chat.talk.value.messages.length < 600")
    shown = page.look("document.querySelectorAll('#messages > li').length")
    for _ in range(14):  # past what is live
        page.look("void (scroller.scrollTop = 0)")
        page.wait(f"document.querySelectorAll('#messages > li').length > {shown} || chat.talk.messages.length > 620")
        shown = page.look("document.querySelectorAll('#messages > li').length")
    page.wait("chat.talk.messages.length > 620")
    numbers = page.look(NUMBERS)
    assert numbers == list(range(numbers[0], MANY))
    page.ends_well()


def test_reading_further_up_moves_nothing_under_the_reader(browser: Node, server: Server) -> None:
    page = ChatPage(browser, LEFT, f"{server.url}/#long", who="reader")
    page.wait(f"{LAST} !== null")
    page.look("void (globalThis.first = document.querySelector('#messages > li'), scroller.scrollTop = 300)")
    before = page.look("first.getBoundingClientRect().top")
    page.wait("document.querySelector('#messages > li') !== first")
    page.look(FRAMES)
    assert abs(page.look("first.getBoundingClientRect().top") - before) < 2
    page.ends_well()
