"""The picture of a video's motion, and what the script says when something is wrong."""

import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))

import motion_field  # noqa: E402

from tests.video.clips import CLIPS, moving, write  # noqa: E402
from vtnp._registry.printable import printable  # noqa: E402


@pytest.fixture
def right(tmp_path):
    """A texture that moves 4 pixels to the right in every frame, in a file that can be traced."""
    frames = moving((4, 0), frames=9, size=(96, 128))
    write(tmp_path / "right.mp4", frames, "libx264", bf="0", refs="1", g="99", sc_threshold="0")
    return tmp_path / "right.mp4"


def share(path, colour):
    """Return the share of pixels close to a colour."""
    image = matplotlib.image.imread(path)[..., :3]
    return float(np.mean(np.abs(image - np.array(colour)).max(axis=-1) < 0.1))


def test_arrows_have_the_colour_of_their_direction(right, tmp_path, capsys):
    out = tmp_path / "x.png"
    assert motion_field.main([str(right), "--out", str(out), "--frames", "2"]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}: frames 5, 7 of 9\n"
    assert not printed.err
    red, others = share(out, (0.95, 0, 0)), [(0, 0.95, 0.95), (0, 0.95, 0), (0.5, 0, 0.95)]
    assert red > 0.02
    assert all(share(out, other) < red / 20 for other in others)


def test_colours_go_round():
    ways = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    found = motion_field.colours(ways)
    assert np.allclose(found[0], (0.95, 0, 0))
    assert np.allclose(found[2], (0, 0.95, 0.95))
    assert len(np.unique(found.round(3), axis=0)) == 4
    assert np.allclose(motion_field.colours(5 * ways), found)


def test_the_error_falls_along_the_arrows(right):
    coded = motion_field.read_coded(right, gray=True)
    motion = motion_field.traced(coded, 6, 2).motion
    still = motion_field.error_of(coded, 6, 2, np.zeros_like(motion))
    assert motion_field.error_of(coded, 6, 2, motion) < still / 2


def test_a_file_that_cannot_be_traced_is_encoded_first(tmp_path, capsys):
    out = tmp_path / "x.png"
    arguments = [str(CLIPS / "bikes.mp4"), "--out", str(out), "--stop", "20", "--frames", "1"]
    assert motion_field.main(arguments) == 0
    assert "B-frames" in capsys.readouterr().err
    assert matplotlib.image.imread(out).std() > 0.1


@pytest.mark.parametrize("name", ["a$\\frac$.mp4", "a\n\x1b[31m\udcff.mp4", "-x.mp4"])
def test_names_of_files(name, right, tmp_path, monkeypatch, capsys):
    """In the title of the picture they are not formulas, and on the terminal no commands."""
    monkeypatch.chdir(tmp_path)
    right.rename(tmp_path / name)
    arguments = [f"--out={name.replace('mp4', 'png')}", "--frames", "1", "--", name]
    assert motion_field.main(arguments) == 0
    assert Path(name.replace("mp4", "png")).stat().st_size > 10_000
    assert motion_field.main(["--step", "99", "--", name]) == 2
    printed = capsys.readouterr()
    assert (
        printed.err
        == f"motion_field.py: {printable(name)}: --step 99 needs more than the 9 frames read\n"
    )
    assert printed.out == f"{printable(name.replace('mp4', 'png'))}: frames 6 of 9\n"


def test_more_frames_than_there_are(right, tmp_path):
    out = tmp_path / "x.png"
    arguments = [str(right), "--out", str(out), "--frames", "50", "--step", "7"]
    assert motion_field.main(arguments) == 0
    assert out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.mp4"], "none.mp4: No such file or directory"),
        (["broken.mp4"], "broken.mp4: Invalid data found when processing input"),
        (["short.mp4", "--step", "9"], "short.mp4: --step 9 needs more than the 9 frames read"),
        (["short.mp4", "--out", "no/x.png"], "no"),
        (["short.mp4", "--frames", "0"], "argument --frames: expected an integer >= 1, got '0'"),
        ([], "the following arguments are required: FILE"),
        (["short.mp4", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments, message, right, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.mp4").write_bytes(b"no video at all" * 100)
    right.rename(tmp_path / "short.mp4")
    assert motion_field.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("motion_field.py: ")
    assert message in error
    assert error.count("\n") == 1


def test_the_script_itself(tmp_path):
    run = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "motion_field.py"), "none.mp4"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stderr == "motion_field.py: none.mp4: No such file or directory\n"
