"""Changes of valid input: bytes, numbers, strings, JSON, and what else may stand at a path."""

import copy
import json
import os
import random
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ESCAPES = "\x1b[31mred\x1b[0m\x07\x08\x1b]0;title\x07"
STRINGS = (
    "", " ", "a", "A" * 300, "A" * 100_000, "\0", "a\0b", "a\nb", "a\r\nb", ESCAPES,
    "\u202egpj.exe", "\u2028", "\ud800", "\udcff", "\U0010ffff", "\ufffe", "é", "e\u0301", "名前",
    "..", "../../x",
    "/etc/passwd", "a/b", "C:\\x", "%s%n", "{0.__class__}", "[bold]x[/bold]", "[/]", "[red]",
    "<x>&", "]]>", "__class__", "__metadata__", "__proto__", "None", "nan", "-0", "1e999",
    "0x10", "١٢",
)  # fmt: skip
INTEGERS = (
    0, 1, -1, 2, 3, 7, 8, 63, 64, 65, 127, 128, 255, 256, 1000, 2**15, 2**16 - 1, 2**16, 2**31 - 1,
    2**31, -(2**31), 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64,
    10**30, 10**400,
)  # fmt: skip


class Raw(str):
    """Text that stands in JSON as it is: NaN, 1e999, a number of 5,000 digits."""

    __slots__ = ()


class Pairs(list[Any]):
    """A JSON object as a list of pairs, so that names may occur twice."""


def integer(rng: random.Random, near: int = 0) -> int:
    """Return an integer that readers might stumble over; near: the right one."""
    kind = rng.randrange(4)
    if kind == 0:
        return near + rng.choice((-2, -1, 1, 2, 8, 100))
    if kind == 1:
        return near * rng.choice((2, 3, 10, 1000, 10**6)) + rng.randrange(3)
    return rng.choice(INTEGERS)


def string(rng: random.Random, near: str = "") -> str:
    """Return a string that readers or terminals might stumble over; near: the right one."""
    if near and rng.random() < 0.5:
        i = rng.randrange(len(near) + 1)
        return near[:i] + rng.choice(STRINGS)[:50] + near[i + rng.randrange(2) :]
    return rng.choice(STRINGS)


# --- Bytes ----------------------------------------------------------------------------------------


def changed_bytes(rng: random.Random, data: bytes) -> bytes:
    """Change bytes without knowing what they mean, mostly near the beginning or the end."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        i = _position(rng, len(content))
        rng.choice(_CHANGES)(rng, content, i)
    return bytes(content)


def _position(rng: random.Random, size: int) -> int:
    near = min(size, 400)
    kind = rng.randrange(3)
    if kind == 0:
        return rng.randrange(near + 1)
    return size - rng.randrange(near + 1) if kind == 1 else rng.randrange(size + 1)


def _flip(rng: random.Random, content: bytearray, i: int) -> None:
    if i < len(content):
        content[i] ^= 1 << rng.randrange(8)


def _write(rng: random.Random, content: bytearray, i: int) -> None:
    written = rng.choice((b"\0", b"\xff", b"\x80", b"\n", b"\0" * 4, b"\xff" * 4, b"\xff" * 8))
    content[i : i + len(written)] = written


def _write_integer(rng: random.Random, content: bytearray, i: int) -> None:
    format = rng.choice(("<B", "<H", "<I", "<Q", ">I", ">Q"))
    size = struct.calcsize(format)
    content[i : i + size] = struct.pack(format, rng.choice(INTEGERS) % 256**size)


def _cut(_: random.Random, content: bytearray, i: int) -> None:
    del content[i:]


def _leave_out(rng: random.Random, content: bytearray, i: int) -> None:
    del content[i : i + rng.choice((1, 2, 8, 100))]


def _insert(rng: random.Random, content: bytearray, i: int) -> None:
    content[i:i] = rng.randbytes(rng.choice((1, 2, 8, 64)))


def _repeat(rng: random.Random, content: bytearray, i: int) -> None:
    content[i:i] = content[i : i + rng.choice((1, 4, 64, 4096))]


_CHANGES: Sequence[Callable[[random.Random, bytearray, int], None]] = (
    _flip, _flip, _write, _write_integer, _cut, _leave_out, _insert, _repeat,
)  # fmt: skip


# --- JSON -----------------------------------------------------------------------------------------


def as_json(tree: Any) -> str:
    """Write JSON that may hold names twice, and text that is none."""
    if isinstance(tree, Raw):
        return str(tree)
    if isinstance(tree, Pairs):
        inner = ", ".join(f"{json.dumps(name)}: {as_json(x)}" for name, x in tree)
        return "{" + inner + "}"
    if isinstance(tree, dict):
        return as_json(Pairs(tree.items()))
    if isinstance(tree, list | tuple):
        return "[" + ", ".join(map(as_json, tree)) + "]"
    return json.dumps(tree)


def changed_json(rng: random.Random, tree: Any) -> Any:
    """Return a copy of JSON in which some nodes are others, are missing, or occur twice."""
    tree = _with_pairs(copy.deepcopy(tree))
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        inner = [each for each in _containers(tree) if each]
        if not inner:
            return value(rng)
        _change(rng, rng.choice(inner))
    return tree


def value(rng: random.Random, near: Any = None) -> Any:
    """Return any JSON value, mostly of the type of the right one."""
    kind = rng.randrange(9)
    if type(near) is int and kind < 6:
        return integer(rng, near)
    if isinstance(near, str) and kind < 6:
        return string(rng, near)
    others: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: rng.random() < 0.5,
        lambda: integer(rng),
        lambda: string(rng),
        lambda: rng.choice((0.5, -0.0, 1e308, 1.0, 1e-320)),
        lambda: rng.choice(
            (Raw("NaN"), Raw("-Infinity"), Raw("1e999"), Raw("9" * 5000), Raw("01"))
        ),
        list,
        Pairs,
        lambda: Raw(rng.choice(("[", '{"a":')) * rng.choice((3, 2000, 100_000))),
    )
    return others[kind]()


def _with_pairs(tree: Any) -> Any:
    if isinstance(tree, dict):
        return Pairs([name, _with_pairs(x)] for name, x in tree.items())
    return [_with_pairs(x) for x in tree] if isinstance(tree, list | tuple) else tree


def _containers(tree: Any) -> list[Any]:
    if not isinstance(tree, list):
        return []
    inner = [x for _, x in tree] if isinstance(tree, Pairs) else tree
    return [tree, *(each for x in inner for each in _containers(x))]


def _change(rng: random.Random, container: Any) -> None:
    i = rng.randrange(len(container))
    kind = rng.randrange(8)
    if kind == 0:
        del container[i]
    elif kind == 1:  # a name occurs twice, or an element
        container.insert(i, copy.deepcopy(container[i]))
    elif kind == 2 and isinstance(container, Pairs):
        container[i][0] = string(rng, container[i][0])
    elif kind == 3 and isinstance(container, Pairs):
        container.append([string(rng), value(rng)])
    elif isinstance(container, Pairs):
        container[i][1] = value(rng, container[i][1])
    else:
        container[i] = value(rng, container[i])


# --- What else may be at a path -------------------------------------------------------------------


def hostile_name(rng: random.Random, suffix: str) -> str:
    """Return the name of a file that can be made, mostly a plain one."""
    if rng.random() < 0.9:
        return f"x{suffix}"
    name = rng.choice(
        ("\udcff\udcfe", ESCAPES, "a\nb", "\u202e", " ", "-x", "a:b", "[red]", "é" * 99)
    )
    return name.replace("/", "_") + suffix


def special_file(rng: random.Random, path: Path) -> str:
    """Put something at a path that is not a regular file; return what."""
    kind = rng.choice(tuple(_SPECIAL))
    _SPECIAL[kind](path)
    return kind


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the path of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.fsencode(path.name)[:90])
    finally:
        os.chdir(here)


_SPECIAL: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "link to a pipe": lambda path: (os.mkfifo(path.with_name("p")), path.symlink_to("p")),
    "socket": _socket,
    "folder": Path.mkdir,
    "loop of links": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "/dev/zero": lambda path: path.symlink_to("/dev/zero"),
    "/dev/null": lambda path: path.symlink_to("/dev/null"),
    "/dev/full": lambda path: path.symlink_to("/dev/full"),
    "/proc/self/mem": lambda path: path.symlink_to("/proc/self/mem"),
    "nothing": lambda path: None,
    "empty": Path.touch,
}
