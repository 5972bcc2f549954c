"""Motion vectors of H.264: exact on clips that were made to move, sensible on real ones."""

import sys
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.video.clips import CLIPS, SIZE, file_of, moving, write
from vtnp.video import (
    Coded,
    UntraceableError,
    VideoError,
    encoded,
    files,
    motion,
    read_coded,
    read_frames,
    token_motion,
    traced,
    transcode,
)

T = 6
INNER = (slice(24, -24), slice(32, -32))  # what stays within the frame all the time


@pytest.fixture(scope="module")
def right_and_up():
    return encoded(moving((4, -3)))


def test_vectors_point_back_to_where_the_content_was(right_and_up):
    inner = right_and_up.vectors[1:, 2:-2, 2:-2]
    assert np.array_equal(inner, np.broadcast_to([-4, 3], inner.shape))
    assert right_and_up.known[1:, 2:-2, 2:-2].all()


def test_a_key_frame_has_no_vectors(right_and_up):
    assert not right_and_up.known[0].any()
    assert not right_and_up.vectors[0].any()


def test_frames_come_back_nearly_as_they_went(right_and_up):
    sent = moving((4, -3))
    assert right_and_up.frames.shape == sent.shape
    assert np.abs(right_and_up.frames.astype(int) - sent).mean() < 4


@pytest.mark.parametrize("t", range(T))
@pytest.mark.parametrize("u", range(T))
def test_a_translation_is_traced_exactly_in_both_directions(right_and_up, t, u):
    found = traced(right_and_up, t, u)
    expected = np.array([4, -3]) * (u - t)
    assert np.array_equal(found.motion[INNER], np.broadcast_to(expected, found.motion[INNER].shape))
    assert found.known[INNER].all()


@pytest.mark.parametrize("velocity", [(2, 0), (0, 2), (-1, 1), (3, 5)])
def test_tokens_move_by_cells(velocity):
    coded = encoded(moving(velocity))
    frames, (h, w) = [0, 1, 3, 5], (4, 3)
    found = token_motion(coded, frames, (h, w))
    assert found.motion.shape == (4, 12, 4, 2)
    cell = SIZE[1] / w, SIZE[0] / h
    grid = found.motion.reshape(4, h, w, 4, 2)[:, 1:3, 1]
    for i, t in enumerate(frames):
        for j, u in enumerate(frames):
            expected = np.array(velocity) * (u - t) / cell
            # Tokens in the middle are at least a pixel away from content that enters the frame.
            assert np.allclose(grid[i, :, j], expected, atol=0.03), (t, u)


def loop_tokens(motion, h, w):
    """Average over tokens, pixel by pixel: a pixel belongs to the token that its centre is in."""
    H, W = motion.shape[:2]
    sums, counts = np.zeros((h * w, 2)), np.zeros(h * w)
    for y in range(H):
        for x in range(W):
            s = int((y + 0.5) * h / H) * w + int((x + 0.5) * w / W)
            sums[s] += motion[y, x]
            counts[s] += 1
    return sums / counts[:, None] / np.array([W / w, H / h])


@given(grid=st.tuples(st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 99))
def test_tokens_are_means_of_traced_pixels(grid, seed):
    coded = drawn(seed)
    found = token_motion(coded, [0, 2], grid)
    for (t, u), (i, j) in (((2, 0), (1, 0)), ((0, 2), (0, 1))):
        expected = loop_tokens(traced(coded, t, u).motion, *grid)
        assert np.allclose(found.motion[i, :, j], expected, rtol=0, atol=1e-12)
    assert not found.motion[0, :, 0].any()
    assert (found.known[0, :, 0] == 1).all()


def drawn(seed, T=3, H=13, W=21):
    """Return vectors drawn at random, of which some are unknown."""
    rng = np.random.default_rng(seed)
    shape = (T, -(-H // 8), -(-W // 8))
    vectors = rng.integers(-24, 25, (*shape, 2)).astype(np.float32) / 4
    known = rng.random(shape) < 0.8
    known[0] = False
    frames = rng.integers(256, size=(T, H, W, 1), dtype=np.uint8)
    return Coded(frames, np.where(known[..., None], vectors, 0).astype(np.float32), known)


def loop_back(coded, t, u):
    """Follow every pixel of frame t back to u, one after the other."""
    _, H, W, _ = coded.frames.shape
    motion, known = np.zeros((H, W, 2)), np.ones((H, W), bool)
    for y in range(H):
        for x in range(W):
            for tau in range(t, u, -1):
                row = min(max(round(y + motion[y, x, 1]), 0), H - 1) // 8
                column = min(max(round(x + motion[y, x, 0]), 0), W - 1) // 8
                known[y, x] &= coded.known[tau, row, column]
                motion[y, x] += coded.vectors[tau, row, column]
    return motion, known


@given(seed=st.integers(0, 99))
def test_tracing_back_is_following_pixel_by_pixel(seed):
    coded = drawn(seed)
    found, (motion, known) = traced(coded, 2, 0), loop_back(coded, 2, 0)
    assert np.array_equal(found.motion, motion)
    assert np.array_equal(found.known, known)


@given(seed=st.integers(0, 99))
def test_one_frame_forward_reverses_the_vectors(seed):
    """A place that known vectors point to gets one of them, reversed; another its own."""
    coded = drawn(seed)
    found = traced(coded, 0, 1)
    _, H, W, _ = coded.frames.shape
    sources = {(y, x): [] for y in range(H) for x in range(W)}
    for y in range(H):
        for x in range(W):
            vector = coded.vectors[1, y // 8, x // 8]
            source = round(float(y + vector[1])), round(float(x + vector[0]))
            if coded.known[1, y // 8, x // 8] and source in sources:
                sources[source].append(-vector)
    for (y, x), vectors in sources.items():
        assert found.known[y, x] == bool(vectors)
        allowed = vectors or [-coded.vectors[1, y // 8, x // 8]]
        assert any(np.array_equal(found.motion[y, x], vector) for vector in allowed)


def test_a_batch_is_its_clips():
    clips = np.stack([moving((4, -3), seed=1), moving((-2, 1), seed=2)])
    both = encoded(clips)
    together = token_motion(both, range(T), (4, 6))
    for i, clip in enumerate(clips):
        one = token_motion(Coded(*(part[i] for part in both)), range(T), (4, 6))
        assert np.array_equal(together.motion[i], one.motion)
        assert np.array_equal(together.known[i], one.known)
        for part, alone in zip(both, encoded(clip), strict=True):
            assert np.array_equal(part[i], alone)


def test_traces_of_a_batch_are_those_of_its_clips():
    clips = [drawn(seed) for seed in range(6)]
    batch = Coded(
        *(np.stack(part).reshape(2, 3, *part[0].shape) for part in zip(*clips, strict=True))
    )
    for t, u in ((2, 0), (0, 2), (1, 1)):
        found = traced(batch, t, u)
        assert found.motion.shape == (2, 3, 13, 21, 2)
        assert found.known.shape == (2, 3, 13, 21)
        for i, clip in enumerate(clips):
            one = traced(clip, t, u)
            assert np.array_equal(found.motion[i // 3, i % 3], one.motion)
            assert np.array_equal(found.known[i // 3, i % 3], one.known)


def vector(x, y, w=8, h=8, motion=(3, -5), scale=4):
    """Return what FFmpeg tells of a block whose upper left pixel is (x, y)."""
    return (w, h, x + w // 2, y + h // 2, *motion, scale)


def vector_field(*vectors, height=24, width=40):
    names = ("w", "u1"), ("h", "u1"), ("dst_x", "i2"), ("dst_y", "i2")
    motions = ("motion_x", "i4"), ("motion_y", "i4"), ("motion_scale", "u2")
    record = np.array(list(vectors), [*names, *motions])
    side_data = SimpleNamespace(to_ndarray=lambda: record)
    return motion._vector_field(side_data, height, width)


@pytest.mark.parametrize(("w", "h"), [(8, 8), (16, 8), (8, 16), (16, 16)])
def test_a_vector_is_that_of_all_blocks_that_it_covers(w, h):
    for x in range(0, 40 - w + 1, 8):
        for y in range(0, 24 - h + 1, 8):
            field, known = vector_field(vector(x, y, w, h))
            expected = np.zeros((3, 5), bool)
            expected[y // 8 : (y + h) // 8, x // 8 : (x + w) // 8] = True
            assert np.array_equal(known, expected)
            assert (field[expected] == [0.75, -1.25]).all()
            assert not field[~expected].any()
            assert (field.dtype, known.dtype) == (np.float32, np.bool_)


def test_blocks_outside_of_a_frame():
    outside = [vector(*at) for at in ((-8, 0), (0, -8), (40, 0), (0, 24), (-8, -8), (40, 24))]
    field, known = vector_field(*outside)
    assert not known.any()
    assert not field.any()
    # Macroblocks reach beyond a frame whose sides are not multiples of 16.
    _, known = vector_field(vector(32, 16, 16, 16))
    assert np.argwhere(known).tolist() == [[2, 4]]
    _, known = vector_field(vector(32, 16, 16, 16), height=23, width=33)
    assert np.argwhere(known).tolist() == [[2, 4]]


def test_vectors_of_other_precisions():
    for scale, expected in ((1, [3, -5]), (2, [1.5, -2.5]), (4, [0.75, -1.25])):
        field, _ = vector_field(vector(0, 0, scale=scale))
        assert (field[0, 0] == expected).all()
    far = vector(504, 504, 16, 16, motion=(4000, -4000))
    field, known = vector_field(far, height=520, width=520)
    assert np.argwhere(known).tolist() == [[63, 63], [63, 64], [64, 63], [64, 64]]
    assert (field[known] == [1000, -1000]).all()


def test_a_frame_without_vectors():
    for field, known in (motion._vector_field(None, 24, 40), vector_field()):
        assert not field.any()
        assert not known.any()
        assert (field.shape, known.shape) == ((3, 5, 2), (3, 5))
        assert (field.dtype, known.dtype) == (np.float32, np.bool_)


def test_sub_clips_are_the_diagonal_blocks(right_and_up):
    whole = token_motion(right_and_up, range(T), (4, 6)).motion
    halves = token_motion(right_and_up, range(T), (4, 6), clips=2).motion
    assert halves.shape == (T, 24, 3, 2)
    assert np.array_equal(halves[:3], whole[:3, :, :3])
    assert np.array_equal(halves[3:], whole[3:, :, 3:])


@pytest.mark.parametrize("grid", [(1, 1), (13, 1), (1, 21), (13, 21)])
def test_the_fewest_and_the_most_tokens(grid):
    coded = drawn(3)
    found = token_motion(coded, [0, 2], grid)
    expected = loop_tokens(traced(coded, 2, 0).motion, *grid)
    assert np.allclose(found.motion[1, :, 0], expected, rtol=0, atol=1e-12)


def test_a_single_frame_does_not_move(right_and_up):
    for frames, clips in (([2], 1), ([1, 4], 2)):
        found = token_motion(right_and_up, frames, (4, 6), clips=clips)
        assert found.motion.shape == (len(frames), 24, 1, 2)
        assert not found.motion.any()
        assert (found.known == 1).all()


def test_frames_that_are_left_out_are_traced_through():
    """Where the motion turns round in a frame that the model does not see."""
    there = moving((4, 0), frames=3)
    coded = encoded(np.concatenate([there, there[1::-1]]))
    assert np.array_equal(traced(coded, 4, 2).motion[INNER][..., 0], np.full((16, 32), 8.0))
    assert not traced(coded, 4, 0).motion[INNER].any()


def test_a_cut_is_flagged_and_has_no_motion(tmp_path):
    write(
        tmp_path / "cut.mkv", np.concatenate([moving((4, 0), 3), moving((0, 2), 3, seed=5)]),
        "libx264", bf="0", refs="1", g="3", keyint_min="3",
    )  # fmt: skip
    coded = read_coded(tmp_path / "cut.mkv", gray=True)
    assert [frame.any() for frame in coded.known] == [False, True, True, False, True, True]
    assert not traced(coded, 3, 2).motion.any()
    assert not traced(coded, 3, 2).known.any()
    assert not token_motion(coded, [0, 5], (2, 2)).known[1, :, 0].any()


@pytest.mark.parametrize("size", [(64, 96), (62, 90), (37, 51)])
def test_frames_of_any_size(size):
    coded = encoded(moving((2, 1), size=size))
    assert coded.frames.shape == (T, *size, 1)
    assert coded.vectors.shape == (T, -(-size[0] // 8), -(-size[1] // 8), 2)
    middle = traced(coded, 3, 1).motion[size[0] // 2, size[1] // 2]
    assert np.array_equal(middle, [-4, -2])


def test_colour_clips():
    clip = np.repeat(moving((4, -3)), 3, axis=-1)
    coded = encoded(clip)
    assert coded.frames.shape == clip.shape
    assert np.array_equal(traced(coded, 5, 4).motion[32, 48], [-4, 3])


def test_encoding_again_gives_the_same():
    """Whatever is in memory: x264's usual rate control gives something else nine times in ten."""
    first, left = encoded(moving((3, 1))), []
    for i in range(20):
        left.append(np.full(100_000 + 1000 * i, i, np.uint8))
        for a, b in zip(first, encoded(moving((3, 1))), strict=True):
            assert np.array_equal(a, b)


# --- Real videos ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bikes(tmp_path_factory):
    out = tmp_path_factory.mktemp("motion") / "bikes.mp4"
    transcode(CLIPS / "bikes.mp4", out, stop=60)
    return part(read_coded(out, gray=True), 64, 208, 160, 480)


def part(coded, top, bottom, left, right):
    """Return a part of each frame, of whole blocks."""
    assert not any(side % 8 for side in (top, bottom, left, right))
    pixels = np.s_[:, top:bottom, left:right]
    blocks = np.s_[:, top // 8 : bottom // 8, left // 8 : right // 8]
    return Coded(coded.frames[pixels], coded.vectors[blocks], coded.known[blocks])


@pytest.fixture(scope="module")
def carphone(tmp_path_factory):
    out = tmp_path_factory.mktemp("motion") / "carphone.mkv"
    transcode(CLIPS / "carphone_pristine.mp4", out)
    return read_coded(out, gray=True)


@pytest.fixture(scope="module")
def bunny():
    """The one clip whose own vectors are good to be traced: one reference, no B-frames."""
    return middle_of_bunny()


def middle_of_bunny():
    """Return a quarter of each frame, where most of the motion is."""
    coded = read_coded(CLIPS / "bigbuckbunny.mp4", gray=True, stop=24)
    assert coded.frames.shape == (24, 720, 1280, 1)
    return part(coded, 240, 480, 400, 880)


def error(coded, t, u, motion):
    """Return the mean square error of frame t put together from pixels of frame u."""
    target, source = (coded.frames[i, :, :, 0].astype(float) for i in (t, u))
    H, W = target.shape
    y = np.clip(np.rint(np.arange(H)[:, None] + motion[..., 1]), 0, H - 1).astype(int)
    x = np.clip(np.rint(np.arange(W) + motion[..., 0]), 0, W - 1).astype(int)
    return np.mean((target - source[y, x]) ** 2)


def summed(coded, t, u):
    """Return the vectors of all frames at one place, added up."""
    _, H, W, _ = coded.frames.shape
    return coded.vectors[u + 1 : t + 1].sum(axis=0).repeat(8, 0).repeat(8, 1)[:H, :W]


@pytest.mark.parametrize("name", ["bikes", "carphone", "bunny"])
@pytest.mark.parametrize("k", [1, 4, 8])
def test_traced_motion_predicts_real_frames(name, k, request):
    """Traced is at least as good as summed, better than none; the wrong sign is worst."""
    coded = request.getfixturevalue(name)
    errors = []
    for t in range(k + 1, len(coded.frames), max(5, len(coded.frames) // 8)):
        motion = traced(coded, t, t - k).motion
        kinds = (motion, summed(coded, t, t - k), 0 * motion, -motion)
        errors.append([error(coded, t, t - k, kind) for kind in kinds])
    follow, add, none, wrong = np.mean(errors, axis=0)
    assert follow == add if k == 1 else follow < add
    assert add < none < wrong


@pytest.mark.parametrize("name", ["bikes", "carphone", "bunny"])
def test_forward_motion_predicts_real_frames(name, request):
    """Vectors turned round are better than traces back taken with the other sign, and than none."""
    coded = request.getfixturevalue(name)
    errors = []
    for u in range(5, len(coded.frames), max(5, len(coded.frames) // 8)):
        t = u - 4
        kinds = (traced(coded, t, u).motion, -traced(coded, u, t).motion, 0)
        kinds = (*kinds[:2], np.zeros_like(kinds[0]))
        errors.append([error(coded, t, u, kind) for kind in kinds])
    turned, negated, none = np.mean(errors, axis=0)
    assert turned < negated < none


def test_reading_twice_gives_the_same(bunny):
    for a, b in zip(bunny, middle_of_bunny(), strict=True):
        assert np.array_equal(a, b)


def test_no_threads_decode_vectors():
    """Those that decode several frames at once have attached vectors to the wrong ones."""
    with files.opened(CLIPS / "bigbuckbunny.mp4") as video:
        assert video.stream.codec_context.thread_type.name != "NONE"
        motion.coded_of(video, gray=True, stop=1)
        assert video.stream.codec_context.thread_type.name == "NONE"


def test_frames_are_those_of_read_frames():
    frames = read_frames(CLIPS / "bigbuckbunny.mp4", stop=2)
    assert np.array_equal(read_coded(CLIPS / "bigbuckbunny.mp4", stop=2).frames, frames)


# --- What is refused ------------------------------------------------------------------------------


def test_b_frames_are_refused():
    with pytest.raises(
        UntraceableError, match=r"bikes\.mp4: has B-frames, .*vtnp\.video\.transcode"
    ):
        read_coded(CLIPS / "bikes.mp4")


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "mpeg1video"])
def test_b_frames_of_older_codecs_are_refused(tmp_path, codec):
    """Their headers announce B-frames whether there are any or not."""
    write(tmp_path / "x.mkv", moving((4, -3)), codec, g="100", bf="2", qscale="2")
    with pytest.raises(UntraceableError, match=r"x\.mkv: has B-frames, .*transcode"):
        read_coded(tmp_path / "x.mkv")
    assert len(read_coded(tmp_path / "x.mkv", stop=1).frames) == 1


def test_b_frames_after_frames_without(tmp_path):
    parts = [file_of(moving((1, 0), 8), format="h264", bf=bf, refs="1") for bf in "02"]
    (tmp_path / "x.h264").write_bytes(parts[0] * 10 + parts[1])
    with files.opened(tmp_path / "x.h264") as video:
        assert not video.stream.codec_context.has_b_frames
    with pytest.raises(
        UntraceableError, match=r"x\.h264: has (B-frames|\d reference frames), .*transcode"
    ):
        read_coded(tmp_path / "x.h264")


def test_several_references_are_refused(tmp_path):
    write(tmp_path / "x.mp4", moving((1, 0)), "libx264", bf="0", refs="3")
    with pytest.raises(UntraceableError, match=r"has 3 reference frames, .*transcode"):
        read_coded(tmp_path / "x.mp4")


@pytest.mark.parametrize(
    ("codec", "name", "options"),
    [
        ("libx265", "hevc", {"x265-params": "log-level=none"}),
        ("libvpx-vp9", "vp9", {}),
        ("ffv1", "ffv1", {}),
    ],
)
def test_codecs_without_vectors_are_refused_and_transcoding_helps(tmp_path, codec, name, options):
    write(tmp_path / "x.mkv", moving((4, 0)), codec, **options)
    with pytest.raises(
        VideoError, match=f"FFmpeg exports no motion vectors of {name}; .*transcode"
    ):
        read_coded(tmp_path / "x.mkv")
    transcode(tmp_path / "x.mkv", tmp_path / "y.mkv")
    assert np.array_equal(traced(read_coded(tmp_path / "y.mkv"), 3, 1).motion[32, 48], [-8, 0])


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video"])
def test_older_codecs_have_vectors_too(tmp_path, codec):
    write(tmp_path / "x.mkv", moving((4, -3)), codec, g="100", bf="0", qscale="2")
    found = traced(read_coded(tmp_path / "x.mkv"), 3, 1)
    assert np.array_equal(found.motion[32, 48], [-8, 6])


def test_interlaced_frames_are_refused(tmp_path):
    write(
        tmp_path / "x.mkv", moving((1, 0)), "libx264",
        bf="0", refs="1", flags="+ildct", **{"x264-params": "tff=1:ref=1"},
    )  # fmt: skip
    with pytest.raises(UntraceableError, match=r"interlaced frames|\d reference frames"):
        read_coded(tmp_path / "x.mkv")


@pytest.mark.parametrize(
    "read", [read_coded, lambda path: transcode(path, path.with_name("y.mp4"))]
)
def test_files_that_are_no_video(tmp_path, read):
    with pytest.raises(VideoError, match=r"none\.mp4: No such file"):
        read(tmp_path / "none.mp4")
    (tmp_path / "x.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(VideoError, match=r"x\.mp4: Invalid data"):
        read(tmp_path / "x.mp4")
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(VideoError, match=r"sound\.wav: no video stream in this file"):
        read(tmp_path / "sound.wav")
    # A stream in the header, without any packets.
    write(tmp_path / "whole.mkv", moving((1, 0)), "libx264", bf="0", refs="1")
    data = (tmp_path / "whole.mkv").read_bytes()
    head = data[: data.index(b"\x1f\x43\xb6\x75")]
    (tmp_path / "cut.mkv").write_bytes(head)
    with pytest.raises(
        VideoError, match=r"cut\.mkv: truncated after 0 frames: \d+ bytes are missing"
    ):
        read(tmp_path / "cut.mkv")
    segment = head.index(b"\x18\x53\x80\x67") + 4
    length = (1 << 56 | len(head) - segment - 8).to_bytes(8)
    (tmp_path / "none.mkv").write_bytes(head[:segment] + length + head[segment + 8 :])
    with pytest.raises(VideoError, match=r"none\.mkv: (End of file|no frames in this video)"):
        read(tmp_path / "none.mkv")
    (tmp_path / "zero.mkv").write_bytes(b"")
    with pytest.raises(VideoError, match=r"zero\.mkv: the file is empty"):
        read(tmp_path / "zero.mkv")


def test_no_frames_asked_for(tmp_path):
    for read in (read_coded, lambda path, stop: transcode(path, tmp_path / "y.mp4", stop=stop)):
        with pytest.raises(VideoError, match=r"\.mp4: no frames in this video$"):
            read(CLIPS / "bigbuckbunny.mp4", stop=0)


def test_a_copy_that_cannot_be_written(tmp_path):
    with pytest.raises(VideoError, match=r"nowhere/y\.mp4: No such file"):
        transcode(CLIPS / "bikes.mp4", tmp_path / "nowhere" / "y.mp4", stop=2)


@pytest.mark.parametrize("frames", [
    np.zeros((4, 16, 16, 1)),
    np.zeros((4, 16, 16, 2), np.uint8),
    np.zeros((16, 16, 1), np.uint8),
    np.zeros((0, 16, 16, 1), np.uint8),
])  # fmt: skip
def test_clips_that_cannot_be_encoded(frames):
    with pytest.raises(VideoError, match=r"expected clips \*b T H W C of uint8, C = 1 or 3, got "):
        encoded(frames)


def test_vectors_that_are_not_finite(right_and_up):
    vectors = right_and_up.vectors.copy()
    vectors[2, 3, 4, 0] = np.nan
    broken = right_and_up._replace(vectors=vectors)
    with pytest.raises(VideoError, match=r"^expected finite motion vectors$"):
        traced(broken, 3, 1)
    with pytest.raises(VideoError, match=r"^expected finite motion vectors$"):
        token_motion(broken, [0, 1], (2, 2))


def test_frames_and_grids_that_are_not_there(right_and_up):
    with pytest.raises(VideoError, match="expected frames from 0 to 5"):
        traced(right_and_up, 6, 0)
    with pytest.raises(VideoError, match="expected frames from 0 to 5"):
        token_motion(right_and_up, [-1, 2], (2, 2))
    for frames, clips in (([2, 1], 1), ([1, 1], 1), ([], 1), ([0, 1, 2], 2)):
        with pytest.raises(VideoError, match="expected frames in increasing order"):
            token_motion(right_and_up, frames, (2, 2), clips=clips)
    for grid in ((0, 2), (2, 0), (-1, 2), (65, 2), (2, 97)):
        with pytest.raises(VideoError, match="a frame of 64 x 96 pixels has no"):
            token_motion(right_and_up, [0, 1], grid)


def test_without_an_encoder(monkeypatch):
    def none(*_, **__):
        raise av.codec.codec.UnknownCodecError("libx264")

    monkeypatch.setattr(av.container.OutputContainer, "add_stream", none, raising=False)
    with pytest.raises(VideoError, match=r"no encoder for H\.264"):
        encoded(moving((1, 0)))


def test_without_pyav_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"vtnp\[video\]"):
        read_coded(CLIPS / "bigbuckbunny.mp4")
