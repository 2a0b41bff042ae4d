"""Random programs that mutate JSON: the same steps run on a draft and on plain data.

A step names a container by a walk (indices, modulo what is there), an operation, and its arguments.
Containers may be held over steps, written to when they are no longer in the document, and put back.
Where Python would alias one object at two places, the plain run copies, as a draft does: also what has once left the
document while something of it stayed there (`hollow`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, MutableMapping, MutableSequence
from typing import Any

from hypothesis import strategies as st

from statestream.core.draft.tracker import Draft

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 1.5]),
    st.sampled_from(["", "a", "/", "~1", "é"]),
)
keys = st.sampled_from(["a", "b", "c", "", "/", "~", "~1", "0", "é"])
values = st.recursive(scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(keys, v, max_size=3), max_leaves=8)
base_documents = st.dictionaries(keys, values, max_size=4) | st.lists(values, max_size=5)
indices = st.integers(-4, 6)
steps = st.tuples(
    st.lists(st.integers(0, 6), max_size=3),
    st.integers(0, 26),
    keys,
    indices,
    indices,
    values,
    st.lists(st.integers(0, 6), max_size=3),
)
programs = st.lists(steps, max_size=12)
LIMIT = 400
HOLDING = 20


def run(program: Any, state: Any) -> None:
    held: list[Any] = []
    hollow: list[Any] = []
    for walk, op, key, i, j, value, other in program:
        if size(state) > LIMIT:
            return
        hollow += [mine for mine in held if not isinstance(mine, Draft) and is_hollow(state, mine)]
        target = resolve(state, walk)
        if op >= HOLDING:
            hold(state, held, hollow, target, op, key, value)
            continue
        try:
            if isinstance(target, MutableMapping):
                on_dict(state, target, op, key, value, other)
            else:
                on_list(state, target, op, i, j, value, other)
        except (IndexError, KeyError, ValueError, TypeError):
            continue  # both runs must raise alike: what differs shows in the result


def hold(state: Any, held: list[Any], hollow: list[Any], target: Any, op: int, key: str, value: Any) -> None:
    """Takes hold of a container, or writes to what is held, or puts it into the document."""
    if op == HOLDING or not held:
        held.append(target)
        return
    mine = held[-1 if op % 2 else 0]
    if op < HOLDING + 3:
        put(mine, key, copy.deepcopy(value))
    elif mine is not target and not (isinstance(target, MutableMapping) and target.get(key) is mine):
        replaced = target.get(key) if isinstance(target, MutableMapping) else None
        stays = isinstance(mine, Draft) or is_child(mine, replaced)
        put(target, key, mine if stays else moved_or_copied(state, hollow, mine))


def is_child(mine: Any, replaced: Any) -> bool:
    """What stood directly in the container whose place it takes moves there."""
    return isinstance(replaced, (MutableMapping, MutableSequence)) and any(c is mine for c in containers(replaced))


def run_wild(program: Any, state: Any) -> None:
    """Moves containers about, inside and outside the document, in ways that plain data would alias. For drafts only."""
    held: list[Any] = [state]
    for walk, op, key, i, j, value, other in program:
        if size(state) > LIMIT:
            return
        inside = held[i % len(held)]
        target, source = resolve(inside, walk), resolve(held[j % len(held)], other)
        try:
            wild_step(held, target, source, op, key, value)
        except (IndexError, KeyError, ValueError, TypeError):
            continue


def wild_step(held: list[Any], target: Any, source: Any, op: int, key: str, value: Any) -> None:
    match op % 7:
        case 0:
            held.append(source)
        case 1:
            taken = target.pop(key) if isinstance(target, MutableMapping) else target.pop()
            held.extend([taken] if isinstance(taken, Draft) else [])
        case 2 | 3:
            put(target, key, source)
        case 4:
            put(target, key, copy.deepcopy(value))
        case 5 if isinstance(target, MutableMapping):
            target[key] = {**source, "spread": 1} if isinstance(source, MutableMapping) else [*source, source[0]]
        case 5:
            target[:] = [*target[::-1], source]
        case _:
            put(source, key, target)


def put(target: Any, key: str, value: Any) -> None:
    if isinstance(target, MutableMapping):
        target[key] = value
    else:
        target.append(value)


def moved_or_copied(state: Any, hollow: list[Any], mine: Any) -> Any:
    """Plain data as a draft would take it: a copy if something of it stands in the document, or has stood there."""
    placed_ids = {id(c) for c in everything(state)}
    stands = any(id(c) in placed_ids for c in everything(mine))
    return copy.deepcopy(mine) if stands or any(each is mine for each in hollow) else mine


def is_hollow(state: Any, mine: Any) -> bool:
    """Whether it has left the document, and something of it has not."""
    placed_ids = {id(c) for c in everything(state)}
    return id(mine) not in placed_ids and any(id(c) in placed_ids for c in everything(mine))


def everything(state: Any) -> Iterator[Any]:
    yield state
    for inner in containers(state):
        yield from everything(inner)


def resolve(state: Any, walk: list[int]) -> Any:
    for number in walk:
        inner = containers(state)
        if not inner:
            break
        state = inner[number % len(inner)]
    return state


def containers(state: Any) -> list[Any]:
    inner = state.values() if isinstance(state, MutableMapping) else state
    return [v for v in inner if isinstance(v, (MutableMapping, MutableSequence))]


def size(state: Any) -> int:
    inner = state.values() if isinstance(state, MutableMapping) else state
    return sum(1 + (size(v) if isinstance(v, (MutableMapping, MutableSequence)) else 0) for v in inner)


def placed(value: Any) -> Any:
    """A container that keeps its place, to be put elsewhere: a draft is copied by itself, plain data here."""
    return value if isinstance(value, Draft) else copy.deepcopy(value)


def by_text(value: Any) -> str:
    return repr(copy.deepcopy(value))


def on_dict(state: Any, d: Any, op: int, key: str, value: Any, other: list[int]) -> None:
    match op:
        case 0 | 1 | 2:
            d[key] = copy.deepcopy(value)
        case 3:
            del d[key]
        case 4:
            d.pop(key)
        case 5:
            d.update({key: copy.deepcopy(value), "b": 1})
        case 6:
            d |= {key: copy.deepcopy(value)}
        case 7:
            found = d.setdefault(key, copy.deepcopy(value))
            if isinstance(found, MutableSequence):
                found.append(1)
        case 8:
            d.clear()
        case 9:
            d.popitem()
        case 10:
            d[key] = placed(resolve(state, other))
        case 11:
            d[key] += 1
        case 12:
            moved = d.pop(key)
            if isinstance(moved, MutableMapping):
                moved["moved"] = True
            target = resolve(state, other)
            if isinstance(target, MutableMapping):
                target["here"] = moved
            else:
                target.append(moved)
            if isinstance(moved, MutableSequence):
                moved.append("later")
        case 13:
            d[key] = {**d[key], "spread": copy.deepcopy(value)}
        case 14:
            d[key] = [*d[key], copy.deepcopy(value)]
        case 15:
            d[key] = [x for n, x in enumerate(d[key]) if n % 2]
        case 16:
            for inner in containers(d):
                inner.clear()
        case _:
            d[key] = [copy.deepcopy(value), placed(d[key])]


def on_list(state: Any, items: Any, op: int, i: int, j: int, value: Any, other: list[int]) -> None:
    match op:
        case 0 | 1:
            items.append(copy.deepcopy(value))
        case 2:
            items.insert(i, copy.deepcopy(value))
        case 3:
            items[i] = copy.deepcopy(value)
        case 4:
            del items[i]
        case 5:
            items.pop(i)
        case 6:
            items[i:j] = [copy.deepcopy(value), 1]
        case 7:
            del items[i:j]
        case 8:
            items[::2] = [copy.deepcopy(value) for _ in items[::2]]
        case 9:
            items.sort(key=by_text)
        case 10:
            items.reverse()
        case 11:
            items += [copy.deepcopy(value)]
        case 12:
            moved = items.pop(i)
            target = resolve(state, other)
            if isinstance(target, MutableMapping):
                target["here"] = moved
            else:
                target.insert(j, moved)
            if isinstance(moved, MutableMapping):
                moved["moved"] = True
        case 13:
            items[:] = [x for n, x in enumerate(items) if n != i]
        case 14:
            items.append(placed(resolve(state, other)))
        case 15:
            items.extend([1, copy.deepcopy(value)])
        case 16:
            items.remove(value)
        case 17:
            items *= 2 if not containers(items) else 1
        case 18:
            items.clear()
        case _:
            for inner in containers(items):
                if isinstance(inner, MutableMapping):
                    inner["seen"] = i
