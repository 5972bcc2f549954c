"""Whether a file is as long as it says, told from its own lengths."""

import io
import struct

import pytest

from tests.video.clips import CLIPS, KINDS, OTHER_KINDS, tiny
from vtnp.video.truncation import truncation


def missing(*parts):
    return truncation(io.BytesIO(b"".join(parts)))


@pytest.mark.parametrize("kind", [*KINDS, *OTHER_KINDS])
def test_whole_files(kind):
    assert missing(tiny(kind)) is None


@pytest.mark.parametrize("clip", sorted(path.name for path in CLIPS.glob("*.mp4")))
def test_real_files(clip):
    with (CLIPS / clip).open("rb") as file:
        assert truncation(file) is None


@pytest.mark.parametrize(
    "kind", ["x.mp4", "fast.mp4", "fragments.mp4", "x.mkv", "live.mkv", "x.avi"]
)
def test_all_beginnings_of_a_file(kind):
    """All but those too short to tell of what they are, and those where whole parts are missing."""
    data = tiny(kind)
    silent = [end for end in range(len(data)) if missing(data[:end]) is None]
    early = [end for end in silent if end < 8]
    assert early == list(range(4 if kind.endswith("mkv") else 8))
    assert len(silent) - len(early) <= {"fragments.mp4": 16, "live.mkv": 6}.get(kind, 0)


@pytest.mark.parametrize("kind", ["x.ts", "x.flv", "x.h264", "x.gif", "x.png"])
def test_files_that_do_not_say(kind):
    assert missing(tiny(kind)[:-100]) is None


def test_no_file_at_all():
    assert missing() is None
    assert missing(b"no video at all") is None
    assert missing(bytes(100)) is None


# --- MP4 ------------------------------------------------------------------------------------------


def box(kind, content=b"", length=None):
    return struct.pack(">I4s", len(content) + 8 if length is None else length, kind) + content


FTYP, MOOV, MDAT = box(b"ftyp", b"isom"), box(b"moov", bytes(20)), box(b"mdat", bytes(30))


def test_boxes():
    assert missing(FTYP, MOOV, MDAT) is None
    assert missing(FTYP, MDAT, MOOV) is None
    assert missing(MDAT, MOOV) is None
    assert missing(FTYP, MOOV, box(b"moof")) is None
    assert missing(FTYP, MDAT, box(b"meta")) is None
    assert missing(FTYP, box(b"meta"), MDAT[:-1]) == "1 bytes are missing"
    assert missing(FTYP, MOOV, MDAT, bytes(7)) is None
    assert missing(FTYP, MOOV, MDAT, box(b"free", bytes(8))) is None
    for kind in (b"skip", b"wide", b"uuid", b"mfra", b"styp", b"sidx", b"pnot", b"udta"):
        assert missing(box(kind, b"x"), FTYP, MOOV, MDAT) is None
        assert missing(MOOV, MDAT, box(kind, b"x", 17)) == "8 bytes are missing"


def test_missing_boxes():
    assert missing(FTYP, MDAT) == "its index is missing"
    assert missing(FTYP) == "its index is missing"
    assert missing(FTYP, MOOV) == "its media data are missing"
    assert missing(FTYP, MOOV, box(b"free")) == "its media data are missing"


@pytest.mark.parametrize("lost", [1, 29, 30])
def test_a_box_that_ends_too_early(lost):
    assert missing(FTYP, MOOV, MDAT[:-lost]) == f"{lost} bytes are missing"
    assert missing(FTYP, MDAT, MOOV[: -min(lost, 20)]) == f"{min(lost, 20)} bytes are missing"


def test_a_box_that_is_the_rest():
    assert missing(FTYP, MOOV, box(b"mdat", bytes(30), 0)) is None
    assert missing(FTYP, box(b"mdat", bytes(30), 0)) == "its index is missing"


def test_lengths_of_eight_bytes():
    long = struct.pack(">I4sQ", 1, b"mdat", 46) + bytes(30)
    assert missing(FTYP, MOOV, long) is None
    assert missing(FTYP, long, MOOV) is None
    assert missing(FTYP, MOOV, long[:-10]) == "10 bytes are missing"
    assert missing(FTYP, MOOV, struct.pack(">I4sQ", 1, b"mdat", 2**40)) == (
        f"{2**40 - 16} bytes are missing"
    )


def test_lengths_that_are_too_short():
    """They must not make the walk stand still."""
    assert missing(FTYP, MOOV, box(b"free", length=3), MDAT) is None
    assert missing(FTYP, MOOV, box(b"mdat", length=7)) is None
    assert missing(FTYP, MOOV, struct.pack(">I4sQ", 1, b"mdat", 0)) is None


def test_boxes_that_nobody_knows():
    """Something else may follow a file."""
    assert missing(FTYP, MOOV, MDAT, box(b"zzzz", b"x", 10**6)) is None
    assert missing(FTYP, box(b"zzzz", b"x", 10**6)) is None


# --- Matroska -------------------------------------------------------------------------------------

EBML, SEGMENT, CLUSTER = (bytes.fromhex(id) for id in ("1a45dfa3", "18538067", "1f43b675"))
VOID = b"\xec"


def element(id, content=b"", width=1, length=None):
    number = (len(content) if length is None else length) | 1 << 7 * width
    return id + number.to_bytes(width) + content


def unknown(id, content=b"", width=8):
    return element(id, content, width, 2 ** (7 * width) - 1)


HEAD = element(EBML, bytes(10))


@pytest.mark.parametrize("width", range(1, 9))
def test_segments(width):
    segment = element(SEGMENT, bytes(50), width)
    assert missing(HEAD, segment) is None
    assert missing(HEAD, segment[:-9]) == "9 bytes are missing"
    for rest in (b"what follows", element(VOID, b"x", 1, 99)):
        assert missing(HEAD, segment, rest) is None
    assert missing(HEAD, segment[: 4 + width - 1]) == "its last element is incomplete"
    assert missing(HEAD, unknown(SEGMENT, element(CLUSTER, bytes(9)), width)) is None
    assert missing(HEAD, unknown(SEGMENT, element(CLUSTER, bytes(9))[:-3], width)) == (
        "3 bytes are missing"
    )


def test_segments_that_are_not_there():
    assert missing(HEAD) == "its segment is missing"
    assert missing(HEAD[:-2]) == "2 bytes are missing"
    assert missing(HEAD[:4]) == "its last element is incomplete"
    assert missing(HEAD, SEGMENT[:3]) == "its last element is incomplete"
    assert missing(HEAD, SEGMENT) == "its last element is incomplete"
    assert missing(unknown(EBML)) is None
    assert missing(HEAD, element(VOID, bytes(3))) is None


def test_elements_in_a_segment_of_unknown_length():
    ids = "114d9b74 1549a966 1654ae6b 1f43b675 1c53bb6b 1254c367 1941a469 1043a770 ec bf".split()
    for id in map(bytes.fromhex, ids):
        inner = element(id, bytes(5), 2)
        assert missing(HEAD, unknown(SEGMENT, inner + inner)) is None
        assert missing(HEAD, unknown(SEGMENT, inner + inner[:-1])) == "1 bytes are missing"
        assert missing(HEAD, unknown(SEGMENT, inner + id)) == "its last element is incomplete"
    assert missing(HEAD, unknown(SEGMENT)) is None


def test_elements_that_cannot_be_followed():
    assert missing(HEAD, unknown(SEGMENT, unknown(CLUSTER, bytes(9)))) is None
    assert missing(HEAD, unknown(SEGMENT, element(b"\xa3", b"x", 1, 99))) is None
    assert missing(HEAD, unknown(SEGMENT, bytes(30))) is None
    assert missing(HEAD, bytes(30)) is None


# --- AVI ------------------------------------------------------------------------------------------


def riff(content, length=None):
    return struct.pack("<4sI", b"RIFF", len(content) if length is None else length) + content


def test_chunks():
    whole = riff(b"AVI " + bytes(60))
    assert missing(whole) is None
    assert missing(whole, riff(b"AVIX" + bytes(20))) is None
    assert missing(whole[:-7]) == "7 bytes are missing"
    assert missing(whole, riff(b"AVIX" + bytes(20))[:-7]) == "7 bytes are missing"
    assert missing(whole, b"JUNK", b"\xff" * 4) is None
    assert missing(whole, b"RIFF\xff\xff\xff") is None
    assert missing(riff(b"AVI " + bytes(60), 0)) is None
