"""Copies of videos: complete, at the right speed, and written completely or not at all."""

import os
import stat
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.video.clips import moving, tiny, write
from vtnp.video import (
    VideoError,
    encoded,
    encoding,
    h264,
    read_frames,
    transcode,
)


@pytest.fixture
def clip(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(tiny("x.mp4"))
    return tmp_path / "clip.mp4"


def opened(path):
    return av.open(str(path))


# --- What a copy is -------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".MP4", ".Mkv"])
def test_a_copy_has_all_frames(clip, suffix):
    out = clip.with_name(f"copy{suffix}")
    transcode(clip, out, qp=0)
    copy, whole = read_frames(out, gray=True), read_frames(clip, gray=True)
    assert copy.shape == whole.shape
    assert np.abs(copy.astype(int) - whole).max() <= 1
    with opened(out) as container:
        stream = container.streams.video[0]
        assert container.format.name.startswith("mov" if suffix.lower() == ".mp4" else "matroska")
        assert (stream.codec_context.name, len(container.streams)) == ("h264", 1)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("threads", [2, 3])
def test_frames_that_the_encoder_holds_back(clip, suffix, threads, monkeypatch):
    """With several threads it gives a frame back later than it takes it."""
    make = encoding._encoder

    def delaying(*arguments):
        encoder = make(*arguments)
        encoder.codec_context.thread_count = threads
        encoder.options = encoder.options | {"thread_type": "frame"}
        return encoder

    monkeypatch.setattr(encoding, "_encoder", delaying)
    transcode(clip, clip.with_name(f"copy{suffix}"))
    assert len(read_frames(clip.with_name(f"copy{suffix}"))) == 8
    assert encoded(moving((1, 0), frames=5)).frames.shape == (5, 64, 96, 1)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), 10, 25, 50, 60])
def test_a_copy_has_the_frame_rate_of_the_file(tmp_path, rate, suffix):
    write(tmp_path / "x.mp4", moving((1, 0), frames=30, size=(16, 16)), "libx264", rate=rate)
    out = tmp_path / f"y{suffix}"
    transcode(tmp_path / "x.mp4", out)
    with opened(out) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(float(rate), rel=0.01)
        times = [frame.time for frame in container.decode(video=0)]
    assert np.allclose(np.diff(times), 1 / float(rate), rtol=0, atol=0.0011)  # Matroska's ms


def test_the_frame_rate_where_a_file_has_none(tmp_path):
    (tmp_path / "x.ts").write_bytes(tiny("x.ts", frames=1))
    with opened(tmp_path / "x.ts") as container:
        assert container.streams.video[0].average_rate is None
    transcode(tmp_path / "x.ts", tmp_path / "y.mp4")
    with opened(tmp_path / "y.mp4") as container:
        assert container.streams.video[0].average_rate == 25


def test_a_copy_refers_to_the_frame_before_alone(clip):
    write(clip, moving((3, 1), frames=12), "libx264", bf="3", refs="4", g="4")
    transcode(clip, clip.with_name("copy.mkv"))
    with opened(clip.with_name("copy.mkv")) as container:
        header = container.streams.video[0].codec_context.extradata
        kinds = [(frame.key_frame, int(frame.pict_type)) for frame in container.decode(video=0)]
    assert kinds == [(True, 1), *[(False, 2)] * 11]
    assert h264.max_reference_frames(h264.units_of_header(header)) == 1


def test_a_cut_makes_no_key_frame(tmp_path):
    """The one key frame is the first, whatever the file's own are."""
    frames = np.concatenate([moving((4, 0), 4), moving((0, 2), 4, seed=5)])
    write(tmp_path / "x.mkv", frames, "libx264", g="2")
    transcode(tmp_path / "x.mkv", tmp_path / "y.mkv")
    with opened(tmp_path / "y.mkv") as container:
        kinds = [int(frame.pict_type) for frame in container.decode(video=0)]
    assert kinds == [1] + [2] * 7


@pytest.mark.parametrize(
    ("size", "pixels"), [((16, 16), "yuv420p"), ((15, 16), "yuv444p"), ((16, 15), "yuv444p")]
)
def test_odd_sides_keep_all_colours(tmp_path, size, pixels):
    write(tmp_path / "x.mkv", moving((1, 0), 2, size), "ffv1", pixels="gray")
    transcode(tmp_path / "x.mkv", tmp_path / "y.mkv")
    with opened(tmp_path / "y.mkv") as container:
        assert container.streams.video[0].pix_fmt == pixels
    assert read_frames(tmp_path / "y.mkv").shape == (2, *size, 3)


def test_the_quantiser(clip):
    sizes, errors = [], []
    whole = read_frames(clip, gray=True).astype(int)
    for qp in (0, 20, 40, 51):
        transcode(clip, clip.with_name("copy.mkv"), qp=qp)
        sizes.append(clip.with_name("copy.mkv").stat().st_size)
        errors.append(np.abs(read_frames(clip.with_name("copy.mkv"), gray=True) - whole).mean())
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)
    assert errors[0] < 0.5 < errors[1] < 5 < errors[-1]


def test_the_quantiser_that_is_not_named(clip):
    for options in ({}, {"qp": 20}):
        transcode(clip, clip.with_name(f"copy{len(options)}.mkv"), **options)
    copies = [read_frames(clip.with_name(f"copy{i}.mkv")) for i in (0, 1)]
    assert np.array_equal(*copies)
    frames = moving((1, 0), frames=3, size=(32, 32))
    assert np.array_equal(encoded(frames).frames, encoded(frames, qp=20).frames)
    assert not np.array_equal(encoded(frames).frames, encoded(frames, qp=21).frames)


@pytest.mark.parametrize("stop", [1, 3, 8, 9])
def test_how_many_frames_are_copied(clip, stop):
    transcode(clip, clip.with_name("copy.mkv"), stop=stop)
    assert len(read_frames(clip.with_name("copy.mkv"))) == min(stop, 8)


def test_each_clip_begins_with_a_key_frame():
    coded = encoded(np.stack([moving((2, 0), 3), moving((0, 2), 3, seed=1)]))
    assert [frame.any() for clip in coded.known for frame in clip] == [False, True, True] * 2


def test_clips_of_any_strides():
    clip = moving((2, 1), frames=6)
    for view in (clip[::2], clip[:, ::-1], clip[:, :, ::2], np.asfortranarray(clip)):
        for part, right in zip(encoded(view), encoded(view.copy(order="C")), strict=True):
            assert np.array_equal(part, right)


# --- How it is written ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.avi", "x.txt", "x", "mp4", "x.mp4.png", "x.m3u8", "x.mp"])
def test_names_of_copies(clip, name):
    out = clip.with_name(name)
    with pytest.raises(VideoError, match=rf"{name}: expected a name that ends in \.mp4 or \.mkv$"):
        transcode(clip, out)
    assert not out.exists()


@pytest.mark.parametrize("form", ["http://127.0.0.1:9/x.mp4", "tcp://127.0.0.1:9/x.mkv"])
def test_copies_are_not_sent_anywhere(clip, form, monkeypatch):
    monkeypatch.chdir(clip.parent)
    with pytest.raises(VideoError, match=rf"^{form}: No such file or directory$"):
        transcode(clip, form)


@pytest.mark.parametrize("name", [3, None, "a\0.mp4"])
def test_what_is_no_name_of_a_copy(clip, name):
    with pytest.raises(
        VideoError, match=r"argument out: expected a path|no file can have this name"
    ):
        transcode(clip, name)


def test_what_a_copy_does_not_replace(clip):
    """Devices neither, which no test may touch."""
    folder, pipe, link = (clip.with_name(f"{name}.mp4") for name in ("folder", "pipe", "link"))
    folder.mkdir()
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for out in (folder, pipe, link):
        before = out.stat().st_mode
        with pytest.raises(VideoError, match=rf"{out.name}: not a regular file$"):
            transcode(clip, out)
        assert out.stat().st_mode == before


def broken(path):
    """Write a file that can be read for a few frames."""
    path.write_bytes(tiny("fast.mp4")[:-200])
    return path


def test_half_a_copy_is_none(clip):
    """What was there remains; an error names the file that is broken, not the copy."""
    bad = broken(clip.with_name("bad.mp4"))
    out = clip.with_name("out.mkv")
    for before in (None, b"before"):
        if before:
            out.write_bytes(before)
        with pytest.raises(VideoError, match=r"bad\.mp4: truncated after [4-7] frames"):
            transcode(bad, out)
        assert out.exists() == bool(before)
        assert not before or out.read_bytes() == before
    assert {path.name for path in clip.parent.iterdir()} == {"clip.mp4", "bad.mp4", "out.mkv"}


def test_a_copy_over_the_file_itself(clip):
    whole = read_frames(clip, gray=True)
    transcode(clip, clip, qp=0)
    copy = read_frames(clip, gray=True)
    assert copy.shape == whole.shape
    assert np.abs(copy.astype(int) - whole).max() <= 1
    assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]


def test_permissions_stay(clip):
    out = clip.with_name("out.mp4")
    out.touch()
    out.chmod(0o640)
    transcode(clip, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    assert len(read_frames(out)) == 8


def test_a_link_stays(clip):
    (clip.parent / "folder").mkdir()
    target, link = clip.parent / "folder" / "target.bin", clip.with_name("link.mp4")
    target.write_bytes(b"before")
    link.symlink_to(target)
    transcode(clip, link)
    assert link.is_symlink()
    assert len(read_frames(target)) == 8
    assert [path.name for path in target.parent.iterdir()] == ["target.bin"]


def test_folders_that_take_no_copy(clip):
    with pytest.raises(VideoError, match=r"nowhere/x\.mp4: No such file or directory$"):
        transcode(clip, clip.parent / "nowhere" / "x.mp4")
    with pytest.raises(VideoError, match=r"clip\.mp4/x\.mp4: Not a directory$"):
        transcode(clip, clip / "x.mp4")


def test_a_full_disk(clip):
    program = (
        "import resource, sys, vtnp.video as video\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))\n"
        "try:\n"
        "    video.transcode(sys.argv[1], sys.argv[2])\n"
        "except video.VideoError as error:\n"
        "    print(error)\n"
    )
    for name in ("out.mp4", "out.mkv"):
        run = subprocess.run(
            [sys.executable, "-c", program, str(clip), str(clip.with_name(name))],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert run.stdout == f"{clip.with_name(name)}: File too large\n"
        assert not run.stderr
        assert [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]


def test_the_unfinished_copy_is_beside_the_copy(clip, monkeypatch):
    """Only on the same disk can a copy be put in its place in one step."""
    seen = []
    replace = Path.replace
    monkeypatch.setattr(
        Path, "replace", lambda self, out: (seen.append((self, out)), replace(self, out))[1]
    )
    transcode(clip, clip.with_name("out.mp4"))
    ((part, out),) = seen
    assert out == clip.with_name("out.mp4").resolve()
    assert part.parent == out.parent
    assert part.name.startswith(".")
