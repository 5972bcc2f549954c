"""Every fault of a file, a stream or an option is a VideoError that names it."""

import contextlib
import io
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.fuzz.video import parsed
from tests.video.clips import KINDS, SIZE, TRACEABLE, file_of, moving, tiny, write
from vtnp.video import (
    Coded,
    UntraceableError,
    VideoError,
    encoded,
    files,
    read_coded,
    read_frames,
    token_motion,
    traced,
    transcode,
)


def copied(path, **options):
    """Copy a video, and read the copy."""
    out = Path(path).with_name("copy.mkv")
    transcode(path, out, **options)
    return read_coded(out)


READERS = {"frames": read_frames, "coded": read_coded, "copy": copied}
reading = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


def frames_of(result):
    return result.frames if isinstance(result, Coded) else result


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    path.write_bytes(tiny("x.mp4"))
    return path


# --- Options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": -1}, "argument start: expected an integer >= 0, got -1"),
        ({"start": 1.5}, "argument start: expected an integer >= 0, got 1.5"),
        ({"start": True}, "argument start: expected an integer >= 0, got True"),
        ({"start": np.True_}, "argument start: expected an integer >= 0, got np.True_"),
        ({"stop": -1}, "argument stop: expected an integer >= 0, got -1"),
        ({"stop": "2"}, "argument stop: expected an integer >= 0, got '2'"),
        ({"step": 0}, "argument step: expected an integer >= 1, got 0"),
        ({"step": -1}, "argument step: expected an integer >= 1, got -1"),
        ({"size": 0}, "argument size: expected an integer >= 1, got 0"),
        ({"size": 1.5}, "argument size: expected an integer >= 1, got 1.5"),
        ({"size": (0, 4)}, "argument size: expected an integer >= 1, got 0"),
        ({"size": (4, -1)}, "argument size: expected an integer >= 1, got -1"),
        ({"size": (4,)}, "argument size: expected 2 integers, got (4,)"),
        ({"size": (4, 4, 4)}, "argument size: expected 2 integers, got (4, 4, 4)"),
        ({"size": (4, 1.5)}, "argument size: expected 2 integers, got (4, 1.5)"),
        ({"size": "ab"}, "argument size: expected 2 integers, got 'ab'"),
        ({"gray": 1}, "argument gray: expected True or False, got 1"),
        ({"gray": "no"}, "argument gray: expected True or False, got 'no'"),
    ],
)
def test_options_of_frames(clip, options, message):
    with pytest.raises(VideoError, match=rf"^{re.escape(message)}$"):
        read_frames(clip, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": -1}, "argument stop: expected an integer >= 0, got -1"),
        ({"stop": 1.5}, "argument stop: expected an integer >= 0, got 1.5"),
        ({"gray": None}, "argument gray: expected True or False, got None"),
    ],
)
def test_options_of_coded_frames(clip, options, message):
    with pytest.raises(VideoError, match=rf"^{re.escape(message)}$"):
        read_coded(clip, **options)


@pytest.mark.parametrize("qp", [-1, 52, 99, 1.5, "20", None, False])
def test_quantisers(clip, qp):
    message = re.escape(f"argument qp: expected an integer from 0 to 51, got {qp!r}")
    with pytest.raises(VideoError, match=rf"^{message}$"):
        copied(clip, qp=qp)
    with pytest.raises(VideoError, match=rf"^{message}$"):
        encoded(moving((1, 0)), qp=qp)
    assert not clip.with_name("copy.mkv").exists()


@pytest.mark.parametrize("qp", [0, 51, np.int64(30)])
def test_the_ends_of_the_range_of_quantisers(qp):
    clip = moving((1, 0), frames=2, size=(16, 16))
    off = np.abs(encoded(clip, qp=qp).frames.astype(int) - clip).mean()
    assert off < 2 if qp == 0 else off > 2


def test_options_may_be_integers_of_numpy(clip):
    whole = read_frames(clip)
    some = read_frames(clip, start=np.int64(1), stop=np.uint8(6), step=np.int8(2), gray=np.False_)
    assert np.array_equal(some, whole[1:6:2])
    for size in ((8, 12), [8, 12], np.array([8, 12]), np.int64(8), 8):
        assert read_frames(clip, size=size, stop=1).shape == (1, 8, 12, 3)
    assert len(read_coded(clip, stop=np.int64(3), gray=np.True_).frames) == 3


def test_frames_beyond_any_index(clip):
    assert len(read_frames(clip, stop=10**30)) == 8
    assert len(read_frames(clip, step=10**30)) == 1
    with pytest.raises(VideoError, match=rf"clip\.mp4: no frames {sys.maxsize}::1 in this video"):
        read_frames(clip, start=10**30)


def test_a_long_value_is_shortened_and_on_one_line(clip):
    for value, length in (("x" * 1000, 80), ("a\nb\x1b[31m", 14), (np.zeros((100, 100)), 80)):
        with pytest.raises(
            VideoError, match="argument start: expected an integer >= 0, got "
        ) as told:
            read_frames(clip, start=value)
        assert (
            len(str(told.value)) == len("argument start: expected an integer >= 0, got ") + length
        )
        assert str(told.value).isprintable()


@pytest.mark.parametrize("frames", [
    None, [[1]], np.ma.zeros((4, 16, 16, 1), np.uint8), np.zeros((4, 16, 16, 4), np.uint8),
    np.zeros((4, 16, 16, 1), np.int8), np.zeros((2, 4, 0, 16, 1), np.uint8),
])  # fmt: skip
def test_clips_of_other_types(frames):
    with pytest.raises(VideoError, match=r"expected clips \*b T H W C of uint8, C = 1 or 3, got "):
        encoded(frames)


@pytest.mark.parametrize("size", [(2, 16385), (16385, 2)])
def test_sides_that_the_encoder_does_not_take(size):
    what = f"frames of {size[0]} x {size[1]} pixels; the encoder takes sides up to 16384"
    with pytest.raises(VideoError, match=what):
        encoded(np.zeros((1, *size, 1), np.uint8))


def test_the_largest_side_that_the_encoder_takes():
    assert encoded(np.zeros((1, 2, 16384, 1), np.uint8)).frames.shape == (1, 2, 16384, 1)


@pytest.fixture(scope="module")
def coded():
    return encoded(moving((2, 1), frames=3, size=(16, 24)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5, 0), "argument t: expected an integer, got 1.5"),
        ((0, "1"), "argument u: expected an integer, got '1'"),
        ((True, 0), "argument t: expected an integer, got True"),
        ((0, 3), r"expected frames from 0 to 2, got \[0, 3\]"),
        ((-1, 0), r"expected frames from 0 to 2, got \[-1, 0\]"),
    ],
)
def test_frames_of_a_trace(coded, arguments, message):
    with pytest.raises(VideoError, match=rf"^{message}$"):
        traced(coded, *arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": None}, "argument frames: expected integers, got None"),
        ({"frames": [0, 1.5]}, "argument frames: expected integers, got [0, 1.5]"),
        ({"frames": "01"}, "argument frames: expected integers, got '01'"),
        ({"frames": [False, True]}, "argument frames: expected integers, got [False, True]"),
        ({"grid": 2}, "argument grid: expected 2 integers, got 2"),
        ({"grid": (2, 2, 2)}, "argument grid: expected 2 integers, got (2, 2, 2)"),
        ({"grid": (2.5, 2)}, "argument grid: expected 2 integers, got (2.5, 2)"),
        ({"grid": (17, 2)}, "a frame of 16 x 24 pixels has no 17 x 2 tokens"),
        ({"clips": 0}, "argument clips: expected an integer >= 1, got 0"),
        ({"clips": 1.5}, "argument clips: expected an integer >= 1, got 1.5"),
    ],
)
def test_options_of_the_motion_of_tokens(coded, changes, message):
    arguments = {"frames": [0, 1], "grid": (2, 2), "clips": 1}
    with pytest.raises(VideoError, match=rf"^{re.escape(message)}$"):
        token_motion(coded, **arguments | changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda coded: 3, "argument coded: expected Coded of arrays, got int"),
        (tuple, "argument coded: expected Coded of arrays, got tuple"),
        (lambda coded: coded._replace(known=None), "argument coded: expected Coded of arrays"),
        (lambda coded: coded._replace(frames=coded.frames[0]), "expected frames *b T H W C, "),
        (lambda coded: coded._replace(vectors=coded.vectors.astype(int)),
         "got frames of shape (3, 16, 24, 1), vectors of int64 and known of bool"),
        (lambda coded: coded._replace(known=coded.known.astype(float)), "and known of float64"),
        (lambda coded: coded._replace(known=coded.known[:2]),
         "frames of shape (3, 16, 24, 1) have vectors of shape (3, 2, 3, 2) and known of shape"),
        (lambda coded: coded._replace(known=coded.known[:, :1]),
         " known of shape (3, 2, 3), got (3, 2, 3, 2) and (3, 1, 3)"),
        (lambda coded: coded._replace(vectors=coded.vectors[:, :1]), "got (3, 1, 3, 2) and (3, 2,"),
        (lambda coded: coded._replace(frames=coded.frames[:, :8]), "vectors of shape (3, 1, 3, 2)"),
        (lambda coded: coded._replace(frames=coded.frames[:, :, :9]), "of shape (3, 2, 2, 2) and"),
    ],
)  # fmt: skip
def test_vectors_that_do_not_fit_the_frames(coded, change, message):
    with pytest.raises(VideoError, match=re.escape(message)):
        traced(change(coded), 1, 0)
    with pytest.raises(VideoError, match=re.escape(message)):
        token_motion(change(coded), [0, 1], (2, 2))


@pytest.mark.parametrize("scale", [1e9, 1e30])
def test_vectors_that_point_far_away(coded, scale):
    far = coded._replace(
        vectors=np.full_like(coded.vectors, scale), known=np.ones_like(coded.known)
    )
    back, forward = traced(far, 1, 0), traced(far, 0, 1)
    assert (back.motion == np.float32(scale)).all()
    assert back.known.all()
    assert (forward.motion == -np.float32(scale)).all()
    assert not forward.known.any()


# --- Names ----------------------------------------------------------------------------------------


_FORMS = (
    "concat:{0}|{0}", "file:{0}", "cache:{0}", "crypto:{0}", "async:{0}", "http://127.0.0.1:9/{0}",
    "https://127.0.0.1:9/x.mp4", "tcp://127.0.0.1:9", "pipe:0", "data:,x", "rtsp://127.0.0.1:9/x",
    "subfile,,start,0,end,9,,:{0}",
)  # fmt: skip


@pytest.mark.parametrize("form", _FORMS)
@reading
def test_protocols_are_no_files(read, clip, form):
    name = form.format(clip)
    with pytest.raises(VideoError, match="no file, and FFmpeg's protocols are not opened") as told:
        read(name)
    assert str(told.value).startswith(f"{name}: ")


def test_a_file_may_be_called_like_a_protocol(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("http:x.mp4", "file:x.mp4", "a,b", "C:x.mp4"):
        Path(name).write_bytes(clip.read_bytes())
        assert len(read_frames(name, stop=2)) == 2
    with pytest.raises(VideoError, match=r"^D:x\.mp4: No such file or directory$"):
        read_frames("D:x.mp4")


def test_a_playlist_is_not_followed(clip, tmp_path):
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    asked.append(server.accept())

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x.ts"
        port = server.getsockname()[1]
        for name, text in {
            "x.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{address}\n#EXT-X-ENDLIST\n",
            "local.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{clip}\n#EXT-X-ENDLIST\n",
            "x.ffconcat": "ffconcat version 1.0\nfile clip.mp4\n",
            "x.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
            f"m=video {port} RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        }.items():
            (tmp_path / "clip.mp4").write_bytes(clip.read_bytes())
            (tmp_path / name).write_text(text)
            with pytest.raises(VideoError, match=rf"{re.escape(name)}: Invalid "):
                read_frames(tmp_path / name)
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
    assert not asked


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (3, "argument path: expected a path, got 3"),
        (None, "argument path: expected a path, got None"),
        ("", "'': No such file or directory"),
        ("a\0b.mp4", r"a\x00b.mp4: no file can have this name"),
        ("\ud800.mp4", r"\ud800.mp4: no file can have this name"),
        ("\udcff.mp4", r"\udcff.mp4: No such file or directory"),
        ("x\ny.mp4", r"x\ny.mp4: No such file or directory"),
        ("\x1b[31m.mp4", r"\x1b[31m.mp4: No such file or directory"),
        ("none/x.mp4", "none/x.mp4: No such file or directory"),
    ],
)
def test_paths(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for read in (read_frames, read_coded, lambda path: transcode(path, "y.mkv")):
        with pytest.raises(VideoError, match=rf"^{re.escape(message)}$"):
            read(path)


def test_a_name_without_end():
    with pytest.raises(VideoError, match=r"^a+\.\.\.a+: File name too long$") as told:
        read_frames("a" * 10_000)
    assert len(str(told.value)) < 500


def test_names_that_are_not_utf_8(clip, tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\xfe.mp4"
    Path(os.fsdecode(path)).write_bytes(clip.read_bytes())
    for each in (path, os.fsdecode(path), Path(os.fsdecode(path))):
        assert read_frames(each, stop=1).shape == (1, 32, 48, 3)


def test_a_link_to_a_file(clip, tmp_path):
    (tmp_path / "link.mp4").symlink_to(clip)
    assert len(read_frames(tmp_path / "link.mp4")) == 8


def special(path):
    os.mkfifo(path / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path / "socket"))
    (path / "folder").mkdir()
    (path / "device").symlink_to("/dev/zero")
    return ("pipe", "socket", "folder", "device")


@reading
def test_what_is_no_regular_file(read, tmp_path):
    """Opening a pipe would wait for a writer."""
    for name in special(tmp_path):
        with pytest.raises(VideoError, match=rf"{name}: not a regular file$"):
            read(tmp_path / name)


@reading
def test_a_file_that_cannot_be_opened(read, tmp_path):
    (tmp_path / "x.mp4").symlink_to("x.mp4")
    with pytest.raises(VideoError, match=r"x\.mp4: Too many levels of symbolic links$"):
        read(tmp_path / "x.mp4")


# --- Files ----------------------------------------------------------------------------------------


@reading
def test_text_that_is_not_utf_8(read, tmp_path):
    data = file_of(moving((2, 1)), format="matroska", tags={"title": "TITLE12"}, **TRACEABLE)
    assert data.count(b"TITLE12") == 1
    (tmp_path / "x.mkv").write_bytes(data.replace(b"TITLE12", b"\xff\xfe\xc0\x80\xed\xa0\x80"))
    (tmp_path / "y.mkv").write_bytes(data)
    found, right = (frames_of(read(tmp_path / name)) for name in ("x.mkv", "y.mkv"))
    assert np.array_equal(found, right)


@reading
def test_text_of_a_stream_that_is_not_utf_8(read, tmp_path):
    data = tiny("x.mp4")
    assert b"VideoHandler" in data
    (tmp_path / "x.mp4").write_bytes(data.replace(b"VideoHandler", b"\xff" * 12))
    assert frames_of(read(tmp_path / "x.mp4")).shape == (8, 32, 48, 3)


@pytest.mark.parametrize(
    ("kind", "tag"), [("x.mp4", b"avc1\0\0\0\0"), ("x.mkv", b"V_MPEG4/ISO/AVC")]
)
@reading
def test_codecs_that_nobody_knows(read, kind, tag, tmp_path):
    data = tiny(kind)
    assert data.count(tag) == 1
    (tmp_path / kind).write_bytes(data.replace(tag, b"V_zz" + tag[4:]))
    what = re.escape(f"{kind}: FFmpeg has no decoder of this video")
    with pytest.raises(VideoError, match=what):
        read(tmp_path / kind)


@reading
def test_a_cover_is_no_video(read, tmp_path):
    with av.open(str(tmp_path / "x.mp3"), "w") as container:
        sound = container.add_stream("libmp3lame", rate=44100)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width = cover.height = 32
        cover.pix_fmt, cover.disposition = "yuvj420p", Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410), np.int16), "s16", "mono")
        frame.sample_rate = 44100
        image = av.VideoFrame.from_ndarray(np.zeros((32, 32), np.uint8), "gray")
        for stream, each in ((cover, image), (cover, None), (sound, frame), (sound, None)):
            container.mux(stream.encode(each))
    with pytest.raises(VideoError, match=r"x\.mp3: only a cover picture in this file"):
        read(tmp_path / "x.mp3")


def test_the_first_video_that_is_no_cover_is_read(tmp_path):
    with av.open(str(tmp_path / "x.mkv"), "w") as container:
        streams = [container.add_stream("ffv1", rate=25) for _ in range(3)]
        for stream in streams:
            stream.width = stream.height = 8
            stream.pix_fmt = "gray"
        for i, stream in enumerate(streams):
            image = np.full((8, 8), 50 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "gray")))
            container.mux(stream.encode())
    assert (read_frames(tmp_path / "x.mkv", gray=True) == 0).all()


@reading
def test_a_size_that_changes(read, tmp_path):
    small = file_of(moving((1, 0), frames=3, size=(48, 64)), format="h264", **TRACEABLE)
    large = file_of(moving((2, 1), frames=4), format="h264", **TRACEABLE)
    (tmp_path / "x.h264").write_bytes(large + small)
    what = r"x\.h264: the size changes from 64 x 96 to 48 x 64 pixels after 4 frames"
    with pytest.raises(VideoError, match=what):
        read(tmp_path / "x.h264")
    assert frames_of(read(tmp_path / "x.h264", stop=4)).shape == (4, *SIZE, 3)
    if read is read_frames:
        assert read(tmp_path / "x.h264", size=(6, 8)).shape == (7, 6, 8, 3)
        with pytest.raises(VideoError, match=what):
            read(tmp_path / "x.h264", size=6)


def test_a_width_that_changes_alone(tmp_path):
    parts = [file_of(moving((1, 0), 2, size), format="h264") for size in ((32, 48), (32, 64))]
    (tmp_path / "x.h264").write_bytes(b"".join(parts))
    with pytest.raises(VideoError, match="changes from 32 x 48 to 32 x 64 pixels after 2 frames"):
        read_frames(tmp_path / "x.h264")


def declared(height, width):
    """Return a PNG of that size, without pixels."""
    head = b"IHDR" + width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4) + head + bytes(4) + bytes(4) + b"IDAT" + bytes(4)


@pytest.mark.parametrize("size", [(2**13, 2**13 + 1), (60_000, 60_000), (2**31 - 1, 1)])
@reading
def test_sizes_that_are_declared_too_large(read, size, tmp_path):
    (tmp_path / "x.png").write_bytes(declared(*size))
    with pytest.raises(VideoError, match=r"x\.png: "):
        read(tmp_path / "x.png")


def joined(*parts):
    """Return one FLV file of several, each with its own header of H.264."""
    return parts[0] + b"".join(part[13:] for part in parts[1:])


def test_frames_that_are_too_large(tmp_path, monkeypatch):
    """Those of a file, those that change on the way, and those that are asked for."""
    path, sizes = tmp_path / "x.flv", ((32, 64), (64, 64))
    small, large = (
        file_of(moving((1, 0), n, size), format="flv", **TRACEABLE)
        for n, size in zip((60, 2), sizes, strict=True)
    )
    path.write_bytes(small)
    monkeypatch.setattr(files, "MAX_PIXELS", 32 * 64)
    assert read_frames(path, size=(64, 32)).shape == (60, 64, 32, 3)
    for size in ((64, 33), 33):
        what = r"x\.flv: \d\d x \d\d pixels in a frame; at most 2048 are read"
        with pytest.raises(VideoError, match=what):
            read_frames(path, size=size)
    path.write_bytes(joined(small, small, small, large))
    with pytest.raises(VideoError, match=r"x\.flv: Invalid .* after 1[78]\d frames"):
        read_frames(path, size=(8, 8))
    path.write_bytes(large)
    with pytest.raises(VideoError, match=r"x\.flv: 64 x 64 pixels in a frame; at most 2048 "):
        read_frames(path, size=(8, 8))


def test_8192_x_8192_pixels_are_the_most():
    assert files.MAX_PIXELS == 8192 * 8192


def hostile_sizes():
    """Return small files with a number that FFmpeg would take 400 MB for, or more."""
    data = tiny("fragments.mp4")
    count = data.index(b"trun") + 8
    yield "x.mp4", data[:count] + (2**24).to_bytes(4) + data[count + 4 :]
    data = tiny("mpeg4.avi")
    text = data.index(b"INFOISFT")
    size = (2**30).to_bytes(4, "little")
    yield "x.avi", data[: text - 4] + b"\xff" * 4 + b"INFOISFT" + size + data[text + 12 :]


def test_memory_for_numbers_in_a_file(tmp_path):
    for name, data in hostile_sizes():
        (tmp_path / name).write_bytes(data)
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmHWM")
        with contextlib.suppress(VideoError):
            read_frames(tmp_path / name)
        assert memory("VmHWM") - before < 2**26


def memory(field):
    """Return a number of bytes that the system notes of this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+)", status)[1])


def test_the_limit_of_memory_ends_with_the_reading(clip):
    large = 2**13, 2**13, "rgba64le"  # of 512 MiB
    with clip.open("rb") as file, files.source(file, "x"):
        with pytest.raises(av.MemoryError):
            av.VideoFrame(*large)
        assert av.VideoFrame(2**13, 2**13, "rgba").width == 2**13
    assert av.VideoFrame(*large).width == 2**13


def test_more_frames_than_memory(clip, monkeypatch):
    one = 32 * 48 * 3
    monkeypatch.setattr(files, "_memory", lambda: 2.0 * 7 * one - 2)
    with pytest.raises(VideoError, match=r"clip\.mp4: 7 frames do not fit into memory"):
        read_frames(clip, stop=7)
    monkeypatch.setattr(files, "_memory", lambda: 2.0 * 7 * one)
    assert len(read_frames(clip, stop=7)) == 7
    with pytest.raises(VideoError, match=r"clip\.mp4: 8 frames do not fit into memory"):
        read_frames(clip)
    with pytest.raises(VideoError, match=r"clip\.mp4: [67] frames do not fit into memory"):
        read_coded(clip)
    assert len(copied(clip, stop=3).frames) == 3


def test_the_memory_of_this_machine(monkeypatch):
    assert 2**27 < files._memory() < 2**50
    monkeypatch.delattr(os, "sysconf")
    assert files._memory() == float("inf")


def test_memory_that_is_not_there(clip, monkeypatch):
    def stack(arrays):
        raise MemoryError

    monkeypatch.setattr(np, "stack", stack)
    with pytest.raises(VideoError, match=r"clip\.mp4: not enough memory"):
        read_frames(clip)


def test_a_file_that_cannot_be_read_to_its_end(capfd):
    """A disk that fails in the middle."""

    class Failing(io.BytesIO):
        def read(self, count):
            if self.tell() > len(self.getvalue()) - 600:
                raise OSError(5, "Input/output error")
            return super().read(min(count, 300))

    for name in ("x.ts", "x.flv", "x.mkv"):
        with (
            pytest.raises(
                VideoError, match=rf"^{name}: Input/output error after (\d|[12]\d) frames$"
            ),
            files.source(Failing(tiny(name, frames=30)), name) as video,
        ):
            list(video.frames())
        assert capfd.readouterr() == ("", "")


# --- Truncated and damaged ------------------------------------------------------------------------

_WITH_LENGTHS = ("x.mp4", "fast.mp4", "fragments.mp4", "x.mkv", "live.mkv", "x.avi")


@pytest.mark.parametrize("kind", _WITH_LENGTHS)
@reading
def test_truncated_files(read, kind, tmp_path):
    """The error says how many frames were read, and that many can be."""
    data, whole = tiny(kind), None
    path = tmp_path / kind
    path.write_bytes(data)
    whole = frames_of(read(path))
    assert len(whole) == 8
    counts = []
    for share in (0.1, 0.5, 0.7, 0.9, 0.99):
        path.write_bytes(data[: int(share * len(data))])
        what = rf"{re.escape(kind)}: truncated after (\d) frames: .* (missing|incomplete)$"
        with pytest.raises(VideoError, match=what) as told:
            read(path)
        counts.append(int(re.search(what, str(told.value))[1]))
        if counts[-1]:
            assert np.array_equal(frames_of(read(path, stop=counts[-1])), whole[: counts[-1]])
    assert counts == sorted(counts)
    assert counts[-1] > 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_at_every_boundary(kind, tmp_path):
    """Frames or a VideoError; and where there are lengths, never fewer frames without an error."""
    data, nodes = parsed(kind)
    path = tmp_path / kind
    ends = {end for node in nodes for end in (node.start, node.content)} - {len(data)}
    assert len(ends) > 20
    for end in sorted(ends):
        path.write_bytes(data[:end])
        try:
            count = len(read_frames(path, size=(4, 6)))
        except VideoError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017 - frames are right as well
        else:
            # A whole fragment is followed by others, or by none.
            assert kind not in _WITH_LENGTHS or (kind, count) == ("fragments.mp4", 8)
            assert 1 <= count <= 8


@pytest.mark.parametrize(
    ("kind", "fault"), [("x.flv", "a damaged packet"), ("x.h264", "a damaged frame")]
)
@reading
def test_damage_in_the_last_packet(read, kind, fault, tmp_path):
    data = tiny(kind)
    # Within the sixth frame: between two starts there is nothing that could be missed.
    starts = [each.start() for each in re.finditer(b"\0\0\1", data)][-4:]
    cut = (starts[1] + starts[2]) // 2 if kind == "x.h264" else int(0.8 * len(data))
    (tmp_path / kind).write_bytes(data[:cut])
    what = rf"{re.escape(kind)}: {fault} after (?P<count>\d) frames$"
    with pytest.raises(VideoError, match=what) as told:
        read(tmp_path / kind)
    count = int(re.search(what, str(told.value))["count"])
    assert 1 < count < 8
    assert len(frames_of(read(tmp_path / kind, stop=count))) == count


@reading
def test_damage_within_a_file(read, tmp_path):
    """FFmpeg notices some of it."""
    data, messages = tiny("x.mkv"), []
    for at in range(len(data) // 3, len(data) - 40, 40):
        (tmp_path / "x.mkv").write_bytes(data[:at] + bytes(20) + data[at + 20 :])
        with contextlib.suppress(VideoError):
            read(tmp_path / "x.mkv")
            continue
        with pytest.raises(VideoError, match=r"x\.mkv: \w") as told:
            read(tmp_path / "x.mkv")
        messages.append(str(told.value))
    assert any(re.search("a damaged frame after [1-7] frames", each) for each in messages)


def test_nothing_is_printed(tmp_path):
    """FFmpeg and PyAV print what they think of broken files."""
    for kind in KINDS:
        data = tiny(kind)
        for i, share in enumerate((0.3, 0.6, 0.95)):
            (tmp_path / f"{i}{kind}").write_bytes(data[: int(share * len(data))])
    # Of this one PyAV asks for what is before its beginning.
    data = bytearray(tiny("x.avi"))
    at = data.index(b"idx1") + 8
    data[at + 8 : at + 12] = b"\xff" * 4
    (tmp_path / "index.avi").write_bytes(data)
    program = (
        "import sys\n"
        "from vtnp.video import VideoError, read_coded, read_frames\n"
        "for path in sys.argv[1:]:\n"
        "    for read in (read_frames, read_coded):\n"
        "        try:\n"
        "            read(path)\n"
        "        except VideoError:\n"
        "            pass\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (run.stdout, run.stderr) == ("", "")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(5, "Input/output error."), "Input/output error"),
        (OSError("odd\n"), r"odd\n"),
        (MemoryError(), "not enough memory"),
        (av.InvalidDataError(1, "Bad data"), "Bad data"),
    ],
)
def test_reasons(error, reason):
    with pytest.raises(VideoError, match=rf"^x: {re.escape(reason)}$"), files.named("x"):
        raise error


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), VideoError("y: z")])
def test_other_errors_are_not_hidden(error):
    with pytest.raises(type(error)) as told, files.named("x"):
        raise error
    assert told.value is error


def test_seeking_before_the_beginning_is_no_exception(tmp_path):
    (tmp_path / "x").write_bytes(b"0123456789")
    with (tmp_path / "x").open("rb") as file:
        reader = files.Reader(file)
        assert reader.seek(-1, 0) == -22
        assert reader.seek(-99, 2) == -22
        assert reader.seek(4, 0) == 4
        assert reader.read(2) == b"45"
        assert reader.tell() == 6


# --- Streams that are unusual, but right ----------------------------------------------------------


def test_no_times(tmp_path):
    """A raw stream has no timestamps; all of its frames are read and copied."""
    (tmp_path / "x.h264").write_bytes(tiny("x.h264"))
    with av.open(str(tmp_path / "x.h264")) as container:
        assert all(frame.pts is None for frame in container.decode(video=0))
    assert len(read_frames(tmp_path / "x.h264")) == len(copied(tmp_path / "x.h264").frames) == 8


def test_a_rotation_is_not_applied(tmp_path):
    frames = moving((2, 1))
    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=TRACEABLE | {"qp": "10"})
        stream.height, stream.width = SIZE
        stream.set_display_rotation(90)
        for image in frames[..., 0]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode())
    with av.open(str(tmp_path / "x.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 90
    for read in (read_frames, lambda path, gray: read_coded(path, gray=gray).frames):
        found = read(tmp_path / "x.mp4", gray=True)
        assert found.shape == frames.shape
        assert np.abs(found.astype(int) - frames).mean() < 5


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p10le", "yuv422p", "gray10le"])
def test_samples_of_more_bits(tmp_path, pixels):
    frames = moving((4, 0))
    write(tmp_path / "x.mkv", frames, "libx264", pixels=pixels, qp="10", **TRACEABLE)
    for found in (read_frames(tmp_path / "x.mkv", gray=True),
                  read_coded(tmp_path / "x.mkv", gray=True).frames):  # fmt: skip
        assert found.dtype == np.uint8
        assert np.abs(found.astype(int) - frames).mean() < 5
    copy = copied(tmp_path / "x.mkv")
    assert np.array_equal(traced(copy, 3, 1).motion[32, 48], [-8, 0])


@reading
def test_high_dynamic_range_is_not_mapped(read, tmp_path):
    """Samples are scaled to 8 bits, whatever curve they are meant for."""
    with av.open(str(tmp_path / "x.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=TRACEABLE | {"qp": "4"})
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p10le"
        stream.codec_context.color_trc = 16  # PQ
        stream.codec_context.color_primaries = stream.codec_context.colorspace = 9  # BT.2020
        for level in (100, 150, 200):
            image = np.full((32, 48), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode())
    found = frames_of(read(tmp_path / "x.mkv"))
    assert np.abs(found.mean(axis=(1, 2, 3)) - [100, 150, 200]).max() < 5


def test_the_fields_of_an_interlaced_frame_are_its_rows(tmp_path):
    frames = moving((0, 2))
    write(
        tmp_path / "x.mkv", frames, "libx264",
        qp="10", flags="+ildct+ilme", **TRACEABLE, **{"x264-params": "tff=1:ref=1"},
    )  # fmt: skip
    with pytest.raises(UntraceableError, match="has interlaced frames; transcode it"):
        read_coded(tmp_path / "x.mkv")
    found = read_frames(tmp_path / "x.mkv", gray=True)
    assert np.abs(found.astype(int) - frames).mean() < 5
    assert np.array_equal(traced(copied(tmp_path / "x.mkv"), 3, 1).motion[32, 48], [0, -4])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (15, 17), (33, 2)])
def test_odd_sizes(tmp_path, size):
    frames = np.random.default_rng(0).integers(256, size=(3, *size), dtype=np.uint8)[..., None]
    write(tmp_path / "x.mkv", frames, "ffv1", pixels="gray")
    assert np.array_equal(read_frames(tmp_path / "x.mkv", gray=True), frames)
    assert copied(tmp_path / "x.mkv").frames.shape == (3, *size, 3)
    assert encoded(frames).frames.shape == frames.shape
