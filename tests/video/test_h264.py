"""The number of reference frames in the headers of H.264, wherever they are in a stream."""

import io
from types import SimpleNamespace

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.video.clips import SIZE, TRACEABLE, file_of, moving
from vtnp.video import UntraceableError, VideoError, h264, motion, read_coded, traced, transcode

CODE = b"\x00\x00\x01"


@pytest.mark.parametrize("container", ["mp4", "matroska", "h264"])
@pytest.mark.parametrize("profile", ["baseline", "main", "high", "high444"])
@pytest.mark.parametrize("refs", [1, 2, 5])
def test_references_are_in_the_header(container, profile, refs):
    data = stream(refs, profile, container)
    with av.open(io.BytesIO(data)) as source:
        header = source.streams.video[0].codec_context.extradata
    assert h264.max_reference_frames(h264.units_of_header(header)) == refs


def stream(refs, profile="main", container="h264", frames=8):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as target:
        stream = target.add_stream("libx264", rate=25)
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv444p" if profile == "high444" else "yuv420p"
        custom = "cqm=jvt:" if profile.startswith("high") else ""
        stream.options = {
            "refs": str(refs), "bf": "0", "profile": profile, "x264-params": f"{custom}weightp=0",
        }  # fmt: skip
        for image in moving((1, 0), frames)[..., 0]:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        target.mux(stream.encode())
    return buffer.getvalue()


# --- Headers written bit by bit -------------------------------------------------------------------


def code(number):
    """Return the Exp-Golomb code of a number."""
    bits = f"{number + 1:b}"
    return "0" * (len(bits) - 1) + bits


def signed(number):
    return code(2 * number - 1 if number > 0 else -2 * number)


def header(refs, *, profile=66, order=0, chroma=1, lists=(), cycle=(), type=7):
    """Return a header of H.264 (ITU-T H.264, 7.3.2.1.1), up to its number of reference frames.

    lists: the scaling lists, as differences; None where a list is not there. cycle: the offsets of
    picture order counts of type 1.
    """
    bits = code(0)
    if profile == 100:
        bits += code(chroma) + ("0" if chroma == 3 else "") + code(0) + code(0) + "0"
        bits += "1" if lists else "0"
        for each in lists:
            bits += "0" if each is None else "1" + "".join(map(signed, each))
    bits += code(3) + code(order)
    if order == 0:
        bits += code(2)
    elif order == 1:
        bits += "1" + signed(-5) + signed(4) + code(len(cycle)) + "".join(map(signed, cycle))
    bits += code(refs) + "1"
    bits += "0" * (-len(bits) % 8)
    body = int(bits, 2).to_bytes(len(bits) // 8)
    return bytes([0x60 | type, profile, 0, 30]) + escaped(body)


def escaped(body):
    """Insert a 3 after two zeros, before what would look like a start code."""
    out, zeros = bytearray(), 0
    for byte in body:
        if zeros == 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = 0 if byte else zeros + 1
    return bytes(out)


def references(*units):
    return h264.max_reference_frames(units)


@given(
    refs=st.integers(0, 16),
    order=st.integers(0, 2),
    cycle=st.lists(st.integers(-(2**20), 2**20), max_size=5),
)
def test_headers_without_formats(refs, order, cycle):
    assert references(header(refs, order=order, cycle=cycle)) == refs


@given(
    refs=st.integers(0, 16),
    chroma=st.integers(0, 3),
    there=st.lists(st.booleans(), min_size=12, max_size=12),
    seed=st.randoms(use_true_random=False),
)
def test_headers_with_scaling_lists(refs, chroma, there, seed):
    lists = [
        scaling_list(seed, 16 if i < 6 else 64) if here else None for i, here in enumerate(there)
    ]
    lists = lists[: 12 if chroma == 3 else 8]
    assert references(header(refs, profile=100, chroma=chroma, lists=lists)) == refs


def scaling_list(rng, size):
    """Return a list as differences; after a number that is 0, all others are the last."""
    last, found = 8, []
    for _ in range(size):
        following = rng.randrange(256)
        found.append((following - last + 128) % 256 - 128)
        if following == 0:
            break
        last = following
    return found


def test_a_difference_may_go_round():
    """8 - 128 is 136, and 136 + 120 is 0, which ends a list."""
    assert references(header(3, profile=100, lists=[[-128, 120], *[None] * 7])) == 3
    assert references(header(3, profile=100, lists=[[127, -127, -8], *[None] * 7])) == 3


@pytest.mark.parametrize("profile", [44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244])
def test_profiles_with_formats(profile):
    with_formats = bytearray(header(4, profile=100, chroma=2))
    with_formats[1] = profile
    assert references(bytes(with_formats)) == 4


@pytest.mark.parametrize("profile", [66, 77, 88])
def test_profiles_without_formats(profile):
    assert references(header(4, profile=profile)) == 4


def test_the_largest_number_of_all_headers():
    several = [header(refs) for refs in (1, 4, 2)]
    assert references(*several) == 4
    assert references(header(0)) == 0
    assert references() is None
    assert references(b"", b"\x68\x00", header(9, type=8), header(9, type=15)) is None
    assert references(b"\x68", *several, b"") == 4


def test_units_after_start_codes():
    parts = [b"\x67abc", b"\x68d", b"\x65"]
    packet = b"\x00" + b"".join(CODE + part for part in parts)
    assert list(h264.units(packet)) == parts
    assert list(h264.units(b"abc")) == []
    assert list(h264.units_of_header(packet)) == parts
    assert h264.length_size(packet) is None
    assert h264.length_size(b"") is None
    assert h264.length_size(b"\x01") is None


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_units_after_their_lengths(size):
    parts = [b"\x67abc", b"", b"\x68d"]
    packet = b"".join(len(part).to_bytes(size) + part for part in parts)
    assert list(h264.units(packet, size)) == parts
    assert list(h264.units(packet[:-1], size)) == [*parts[:-1], b"\x68"]
    assert list(h264.units(b"", size)) == []
    assert h264.length_size(bytes([1, 66, 0, 30, 0xFC | size - 1])) == size


def test_the_header_of_mp4():
    parts = [header(1), header(3)]
    listed = b"".join(len(part).to_bytes(2) + part for part in parts)
    avcc = bytes([1, 66, 0, 30, 0xFF, 0xE0 | 2]) + listed + b"\x01\x00\x01\x68"
    assert list(h264.units_of_header(avcc)) == parts
    one = avcc[:5] + bytes([0xE0 | 1]) + avcc[6:]
    assert list(h264.units_of_header(one)) == parts[:1]
    assert list(h264.units_of_header(avcc[:5])) == []
    assert list(h264.units_of_header(avcc[:9])) == [header(1)[:1], b""]
    assert list(h264.units_of_header(b"")) == []


@pytest.mark.parametrize("length", range(9))
def test_headers_that_end_too_early(length):
    whole = header(2, profile=100, lists=[[5] * 16, *[None] * 7])
    assert len(whole) > 9
    with pytest.raises(h264.HeaderError, match=r"ends too early|out of range"):
        references(b"\x67" + whole[1:length])


def test_a_header_that_ends_with_its_number():
    bits = code(0) + code(3) + code(2) + code(14)
    assert len(bits) == 16
    assert references(bytes([0x67, 66, 0, 30]) + int(bits, 2).to_bytes(2)) == 14


@pytest.mark.parametrize("zeros", [31, 32, 33])
def test_numbers_that_are_out_of_range(zeros):
    bits = "0" * zeros + "1" + "0" * zeros + code(3) + code(2) + code(7)
    bits += "0" * (-len(bits) % 8)
    unit = bytes([0x67, 66, 0, 30]) + escaped(int(bits, 2).to_bytes(len(bits) // 8))
    if zeros == 31:
        assert references(unit) == 7
    else:
        with pytest.raises(h264.HeaderError, match="a number that is out of range"):
            references(unit)


# --- Headers in a stream --------------------------------------------------------------------------


def several_headers(path, *refs):
    """Write a stream in which one header follows another."""
    data = b"".join(stream(each, frames=3) for each in refs)
    if path.suffix == ".h264":
        path.write_bytes(data)
        return
    with av.open(io.BytesIO(data)) as source, av.open(str(path), "w") as target:
        packets = (packet for packet in source.demux(video=0) if packet.size)
        copy = target.add_stream_from_template(source.streams.video[0])
        for i, packet in enumerate(packets):
            packet.stream, packet.pts, packet.dts = copy, 512 * i, 512 * i
            target.mux(packet)


@pytest.mark.parametrize("suffix", [".h264", ".ts", ".mkv", ".mp4"])
def test_all_headers_are_read(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    for refs in ((1, 4), (1, 1, 3), (2, 1)):
        several_headers(path, *refs)
        what = rf"x\{suffix}: has {max(refs)} reference frames, .*transcode"
        with pytest.raises(UntraceableError, match=what):
            read_coded(path)
    transcode(path, tmp_path / "copy.mkv")
    assert len(read_coded(tmp_path / "copy.mkv").frames) == 6


@pytest.mark.parametrize("suffix", [".h264", ".ts", ".mkv", ".mp4"])
def test_several_headers_that_agree(tmp_path, suffix):
    several_headers(tmp_path / f"x{suffix}", 1, 1)
    coded = read_coded(tmp_path / f"x{suffix}")
    assert [frame.any() for frame in coded.known] == [False, True, True] * 2
    if suffix == ".h264":
        assert (traced(coded, 2, 1).motion[32, 48] == [-1, 0]).all()


def test_frames_before_the_header_that_is_refused(tmp_path):
    several_headers(tmp_path / "x.mkv", 1, 4)
    assert len(read_coded(tmp_path / "x.mkv", stop=3).frames) == 3


def test_a_header_beside_a_packet(tmp_path):
    """FLV has headers in tags of their own."""
    one, four = (
        file_of(moving((1, 0), 3), format="flv", **TRACEABLE | {"refs": refs}) for refs in "14"
    )
    (tmp_path / "x.flv").write_bytes(one + one[13:])
    assert len(read_coded(tmp_path / "x.flv").frames) == 6
    (tmp_path / "x.flv").write_bytes(one + four[13:])
    with av.open(str(tmp_path / "x.flv")) as source:
        assert any(packet.has_sidedata("new_extradata") for packet in source.demux(video=0))
    with pytest.raises(UntraceableError, match=r"x\.flv: has 4 reference frames"):
        read_coded(tmp_path / "x.flv")


def test_lengths_of_another_size_after_a_header_beside_a_packet(tmp_path):
    """The units that follow are read with the lengths that the new header declares."""
    one, other = (file_of(moving((1, 0), 3), format="flv", **TRACEABLE) for _ in range(2))
    at, tags = 13, b""
    while at < len(other):
        size = int.from_bytes(other[at + 1 : at + 4])
        head, body = other[at : at + 11], other[at + 11 : at + 11 + size]
        at += size + 15
        if head[0] != 9:
            continue
        if body[1] == 0:  # a header
            body = body[:9] + bytes([0xFC | 1]) + body[10:]
        elif body[1] == 1:  # units
            units = [header(4, profile=77), *h264.units(body[5:], 4)]
            body = body[:5] + b"".join(len(unit).to_bytes(2) + unit for unit in units)
        head = head[:1] + len(body).to_bytes(3) + head[4:]
        tags += head + body + (len(body) + 11).to_bytes(4)
    (tmp_path / "x.flv").write_bytes(one + tags)
    with pytest.raises(UntraceableError, match=r"x\.flv: has 4 reference frames"):
        read_coded(tmp_path / "x.flv")
    assert len(read_coded(tmp_path / "x.flv", stop=3).frames) == 3


def test_a_stream_without_a_header_of_its_own():
    """Its headers are in its packets, after start codes."""

    class Packet(bytes):
        def has_sidedata(self, _):
            return False

    decoder = SimpleNamespace(name="h264", has_b_frames=False, extradata=None)
    inspect = motion._require_traceable("x", decoder)
    inspect(Packet(CODE + header(1) + CODE + b"\x65"))
    with pytest.raises(UntraceableError, match=r"^x: has 3 reference frames, "):
        inspect(Packet(CODE + b"\x65" + CODE + header(3)))


def test_a_broken_header(tmp_path):
    data = bytearray(stream(1))
    at = data.index(CODE + b"\x67") + 3
    end = data.index(CODE, at)
    data[at + 1 : end] = bytes([66, 0, 30]) + bytes(end - at - 4)
    (tmp_path / "x.h264").write_bytes(stream(1) + data)
    what = r"x\.h264: a broken header of H\.264: a number that is out of range"
    with pytest.raises(VideoError, match=what):
        read_coded(tmp_path / "x.h264")
