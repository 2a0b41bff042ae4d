"""`statestream types`: what it writes compiles, says what the slices say, and is the same each time."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.nursery import finished
from tests.support.pages import fences_of, terminals_of, write_files
from tests.support.paths import NODE
from tests.support.ran import Ran
from tests.support.typed import Desk

BROWSER = ROOT / "statestream/browser"
PAGE = "howto/types.md"
TYPED = f"{ROOT / 'tests/apps/typed.py'}:store"
OF_AN_APPLICATION = f"{ROOT / 'tests/apps/contracted.py'}:app"
STRICT = (
    *("--strict", "--noEmit", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--target", "es2022"),
    *("--module", "nodenext", "--pretty", "false", "--skipDefaultLibCheck"),
)
SMALL = """
from typing_extensions import TypedDict
from statestream import Slice, Store


class Todo(TypedDict):
    items: list[str]


todo = Slice("todo", initial={"items": []}, type=Todo)


@todo.action
def added(state: Todo, *, text: str) -> None:
    state["items"].append(text)


store = Store([todo])
"""
USED = """
import type { Actions, Board, Hostile, Item, Node, State } from "./state.js";

declare const state: State;
declare function dispatch<Type extends keyof Actions & string>(type: Type, payload: Actions[Type]): void;

const item: Item = { text: "a", done: false };
const items: Item[] = [...state.todo.items, item];
const owner: string | null = state.todo.owner;
const leaf: Node = { label: "x", children: [{ label: "y", children: [] }] };
const at: [number, number] | undefined = state.board.tasks["1"]?.at;
const bugs: string[] | undefined = state.board.by_kind.bug;
const host: "host" | "guest" | undefined = state["room/42"]?.members[0]?.role;
for (const shape of state.drawing.shapes) {
  if (shape.kind === "circle") shape.radius.toFixed();
  else if (shape.kind === "group") shape.shapes.length.toFixed();
  else shape.side.toFixed();
}
const row: number | undefined = state.pages.rows[0];
const quoted: number = state.hostile["a`${1}\\\\"] + state.hostile["*/ }"] + state.hostile["new\\nline"];
const character: Hostile["enum"] = "`${x}`";
const number: 1 | -1 | true | null = state.hostile.numbers;
const text: string = state.names.Actions.string;
const few: State["globals"] = { Array: [{ a: { string: "x" } }], rest: { anything: 1 } };
const people = "people" in state.salary ? state.salary.people : state.salary["of"];
dispatch("todo/added", { text: "x" });
dispatch("todo/added", { text: "x", done: false });
dispatch("board/put", { task: { id: "1", title: "x", kind: "bug" } });
dispatch("board/emptied", {});
dispatch("drawing/drew", { shape: { kind: "circle", radius: 1 } });
dispatch("hostile/größer", { anything: { at: ["all"] } });

// @ts-expect-error
const without: Item = { text: "a" };
// @ts-expect-error
state.todo.itmes;
// @ts-expect-error
state.todo.owner.length;
// @ts-expect-error
state.board.by_kind.wsh;
// @ts-expect-error
const other: Board["changed"] = 1;
// @ts-expect-error
state["rom/42"];
// @ts-expect-error
state["room/42"]?.members[0]?.nme;
// @ts-expect-error
state.secret;
// @ts-expect-error
state.untyped.length;
// @ts-expect-error
const strange: Hostile["enum"] = "x";
// @ts-expect-error
const broken: import("./state.js").Broken = 1;
// @ts-expect-error
dispatch("todo/added", { txt: "x" });
// @ts-expect-error
dispatch("todo/added", {});
// @ts-expect-error
dispatch("todo/aded", { text: "x" });
// @ts-expect-error
dispatch("board/emptied", { all: true });
// @ts-expect-error
dispatch("board/put", { task: { id: "1", title: "x", kind: "epic" } });
// @ts-expect-error
dispatch("drawing/drew", { shape: { kind: "circle", side: 1 } });
// @ts-expect-error
dispatch("audit/noted", {});
// @ts-expect-error
dispatch("secret/whispered", {});
"""
USED_CHAT = """
import type { State } from "./state.js";

declare const state: State;

const said = state["chat/42"]?.messages.flatMap((message) =>
  message.parts.map((part) => {
    if (part.type === "text" || part.type === "reasoning") return part.text + (part.chunks ?? []).join("");
    if (part.type === "tool") return part.name;
    return part.type === "file" ? part.url : part.type.slice("data-".length);
  }),
);
const titles: (string | undefined)[] = Object.values(state["chats/ada"]?.chats ?? {}).map((chat) => chat.title);
// @ts-expect-error
state["chat/42"]?.messages[0]?.status === "done";
"""


def types(folder: Path, *arguments: str) -> Ran:
    return finished("types", *arguments, folder=folder)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(SMALL)
    return tmp_path


def compiled(folder: Path, *files: str) -> str:
    """What the compiler of TypeScript says; empty if all is right."""
    (folder / "package.json").write_text('{"type": "module"}')
    command = [str(NODE / "node_modules/.bin/tsc"), *STRICT, *files]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, timeout=200).stdout


def test_what_is_written_types_a_program_whatever_names_and_descriptions_are(tmp_path: Path) -> None:
    ran = types(tmp_path, TYPED, "-o", "state.d.ts")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    text = (tmp_path / "state.d.ts").read_text()
    assert "secret" not in text
    assert '"audit/noted"' not in text
    assert all(character.isprintable() for line in text.splitlines() for character in line)
    (tmp_path / "used.ts").write_text(USED)
    (tmp_path / "wrong.ts").write_text('import type { State } from "./state.js";\nconst no: State["todo"] = 1;\n')
    said = compiled(tmp_path, "state.d.ts", "used.ts", "wrong.ts")
    assert re.findall(r"^(\S+)\(", said, re.MULTILINE) == ["wrong.ts"], said


def test_an_application_has_the_types_of_its_store(tmp_path: Path) -> None:
    ran = types(tmp_path, OF_AN_APPLICATION)
    assert ran.code == 0
    assert '"board/added": { id: string; kind?: "bug" | "wish" };' in ran.out
    assert "[key: `chat/${string}`]: Conversation;" in ran.out
    assert not any(name in ran.out for name in ("chat_people", "chat/grew", "revocation"))
    (tmp_path / "state.d.ts").write_text(ran.out)
    (tmp_path / "used.ts").write_text(USED_CHAT)
    assert compiled(tmp_path, "state.d.ts", "used.ts") == ""


def test_the_text_is_the_same_in_each_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "statestream", "types", TYPED]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = {
        subprocess.run(command, env=environment | {"PYTHONHASHSEED": seed}, capture_output=True, check=True).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert types(tmp_path, TYPED, "-o", "-").out.encode() in said


def test_a_check_says_whether_the_file_is_up_to_date(small: Path) -> None:
    missing = types(small, "app.py:store", "-o", "state.d.ts", "--check")
    assert (missing.code, "missing" in missing.err) == (1, True)
    assert not (small / "state.d.ts").exists()
    assert types(small, "app.py:store", "-o", "state.d.ts").code == 0
    fresh = types(small, "app.py:store", "-o", "state.d.ts", "--check")
    assert (fresh.code, fresh.out, fresh.err) == (0, "", "")
    (small / "app.py").write_text(SMALL.replace("text: str", "text: str, at: int"))
    before = (small / "state.d.ts").read_text()
    stale = types(small, "app.py:store", "-o", "state.d.ts", "--check")
    assert stale.code == 1
    assert '-  "todo/added": { text: string };' in stale.out
    assert '+  "todo/added": { text: string; at: number };' in stale.out
    assert stale.out.splitlines()[-1] == "1 line to add, 1 line to remove"
    assert stale.err.endswith("write it with: statestream types app.py:store -o state.d.ts\n")
    assert (small / "state.d.ts").read_text() == before
    (small / "app.py").write_text(SMALL)
    (small / "of_windows.d.ts").write_text(before, newline="\r\n")
    assert types(small, "app.py:store", "-o", "of_windows.d.ts", "--check").code == 0


def test_a_file_that_is_up_to_date_is_not_written(small: Path) -> None:
    assert types(small, "app.py:store", "-o", "state.d.ts").code == 0
    os.utime(small / "state.d.ts", (1, 1))
    assert types(small, "app.py:store", "-o", "state.d.ts").code == 0
    assert (small / "state.d.ts").stat().st_mtime == 1


def test_what_cannot_be_is_said_in_a_sentence(small: Path) -> None:
    for arguments, code, sentence in (
        (("app.py:store", "--check"), 2, "name the file"),
        (("app.py:todo",), 2, "did you mean app.py:store"),
        (("app.py:store", "-o", "no/such/folder.d.ts"), 1, "cannot write no/such/folder.d.ts"),
        (("app.py:store", "-o", "."), 1, "cannot read ."),
    ):
        ran = types(small, *arguments)
        assert ran.code == code
        assert sentence in " ".join(ran.err.replace("│", " ").split())


async def test_the_how_to_says_what_is_written_and_its_client_reads_objects(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    desk = Desk(tmp_path)
    [[writes], [checks]] = terminals_of(PAGE)
    async with desk.types(f"{writes.strip()} && cat state.d.ts && {checks.strip()}") as typed:
        written = "\n".join(await typed.ends()).partition("\n\n")[2]
    assert fences_of(PAGE, "ts") == [written + "\n"]
    async with desk.types("statestream serve app.py:store") as server:
        await server.says("serving on")
        async with desk.types(f"python follow.py {desk.url}") as follow:
            await follow.says(r"^\[\]$")
            for type, more in (("board/task_added", ["1", "Ship it"]), ("room/joined", ["Ada"])):
                payload = dict(zip(("id", "title") if len(more) == 2 else ("name",), more, strict=True))
                key = "--key 42" if type == "room/joined" else ""
                line = f"statestream dispatch {desk.url} {type} '{json.dumps(payload)}' {key}"
                async with desk.types(line) as dispatched:
                    await dispatched.ends()
            await follow.says(r"^\['Ship it'\]$")
            await follow.says(r"^Ada since \d\d:\d\d$")


def test_the_page_of_the_how_to_compiles_with_the_web_client(tmp_path: Path) -> None:
    write_files(PAGE, tmp_path)
    assert types(tmp_path, "app.py:store", "-o", "state.d.ts").code == 0
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/statestream").symlink_to(BROWSER)
    assert compiled(tmp_path, "page.ts", "--lib", "es2022,dom", "--types", "") == ""
    page = (tmp_path / "page.ts").read_text()
    for right, wrong in (
        ("board/task_added", "board/task_aded"),
        ("crypto.randomUUID(), title", "crypto.randomUUID()"),
        ("state.board?.tasks", "state.bord?.tasks"),
        ("member.name", "member.nme"),
        ("`room/", "`rom/"),
    ):
        assert right in page
        (tmp_path / "page.ts").write_text(page.replace(right, wrong))
        assert "page.ts(" in compiled(tmp_path, "page.ts", "--lib", "es2022,dom", "--types", "")


def test_a_type_that_json_cannot_have_is_refused_where_it_is_declared(small: Path) -> None:
    (small / "app.py").write_text(SMALL.replace("items: list[str]", "items: list[threading.Lock]").lstrip())
    (small / "app.py").write_text("import threading\n" + (small / "app.py").read_text())
    ran = types(small, "app.py:store")
    assert ran.code == 1
    assert "the type of the value of todo cannot be read from JSON" in ran.err
