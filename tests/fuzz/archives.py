"""ZIP archives whose directory may say anything."""

import random
import struct
import zlib
from dataclasses import dataclass, field
from functools import cache

from tests.fuzz.mutations import INTEGERS, hostile_name, integer, string

STORED, DEFLATED = 0, 8
METHODS = (STORED, DEFLATED, 1, 9, 12, 14, 93, 99)


@dataclass
class Member:
    """One member. lies: what the headers say in place of the truth, by "central" or "local"."""

    name: str
    data: bytes
    method: int = STORED
    packed: bytes | None = None
    flags: int = 0
    extra: bytes = b""
    lies: dict[tuple[str, str], int] = field(default_factory=dict)


@cache
def zeros(size: int) -> bytes:
    """Return a raw deflate stream of that many zeros, a thousandth of their size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = bytes(1 << 20)
    parts = [packer.compress(chunk) for _ in range(size >> 20)]
    return b"".join([*parts, packer.compress(bytes(size & 0xFFFFF)), packer.flush()])


def archive(
    members: list[Member], end: dict[str, int] | None = None, comment: bytes = b""
) -> bytes:
    """Write an archive. end: what its last record says in place of the truth."""
    content, directory = b"", b""
    for each in members:
        name = each.name.encode("utf-8", "surrogatepass")
        packed = each.packed
        if packed is None:
            packed = each.data
            if each.method == DEFLATED:
                packer = zlib.compressobj(6, zlib.DEFLATED, -15)
                packed = packer.compress(each.data) + packer.flush()
        truth = {
            "flags": each.flags, "method": each.method, "crc": zlib.crc32(each.data),
            "packed": len(packed), "size": len(each.data), "offset": len(content),
        }  # fmt: skip
        local = {key: each.lies.get(("local", key), x) & 0xFFFFFFFF for key, x in truth.items()}
        central = {key: each.lies.get(("central", key), x) & 0xFFFFFFFF for key, x in truth.items()}
        directory += struct.pack(
            "<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, central["flags"] & 0xFFFF,
            central["method"] & 0xFFFF, 0, 33, central["crc"], central["packed"], central["size"],
            len(name), len(each.extra), 0, 0, 0, 0, central["offset"],
        ) + name + each.extra  # fmt: skip
        content += struct.pack(
            "<4sHHHHHIIIHH", b"PK\3\4", 20, local["flags"] & 0xFFFF, local["method"] & 0xFFFF, 0,
            33, local["crc"], local["packed"], local["size"], len(name), 0,
        ) + name + packed  # fmt: skip
    last = {"count": len(members), "size": len(directory), "offset": len(content)} | (end or {})
    count = last["count"] & 0xFFFF
    record = struct.pack(
        "<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, last["size"] & 0xFFFFFFFF,
        last["offset"] & 0xFFFFFFFF, len(comment) & 0xFFFF,
    )  # fmt: skip
    return content + directory + record + comment


def changed_archive(rng: random.Random, members: list[Member]) -> bytes:
    """Write an archive in which some members, or what is said of them, are wrong."""
    members, end = list(members), {}
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        if not members:
            break
        i = rng.randrange(len(members))
        each, kind = members[i], rng.randrange(10)
        if kind == 0:
            del members[i]
        elif kind == 1:
            members.insert(rng.randrange(len(members)), each)
        elif kind == 2:
            suffix = rng.choice((".npy", ""))
            each.name = rng.choice((string(rng, each.name)[:60_000], hostile_name(rng, suffix)))
        elif kind == 3:
            each.method = rng.choice(METHODS)
        elif kind == 4:
            each.flags = rng.choice((1, 8, 0x20, 0x40, 0x800, 0x801, 0x2000, 0xFFFF))
        elif kind == 5:
            each.extra = rng.choice((
                struct.pack("<HHQQQ", 1, 24, *(rng.choice(INTEGERS[:-3]) % 2**64 for _ in "abc")),
                b"\1\0\xff\xff", b"\1\0", rng.randbytes(40), bytes(60_000),
            ))  # fmt: skip
        elif kind == 6:
            key, truth = rng.choice((("count", len(members)), ("size", 500), ("offset", 9000)))
            end[key] = integer(rng, truth)
        else:
            key = rng.choice(("flags", "method", "crc", "packed", "size", "offset"))
            where = rng.choice(("local", "central"))
            each.lies[where, key] = integer(rng, len(each.data))
    return archive(members, end, rng.choice((b"", b"", b"", b"PK\5\6" * 9, bytes(70_000))))
