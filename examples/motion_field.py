"""Draw the motion vectors of a video over some of its frames.

    python examples/motion_field.py holiday.mp4                   four frames, into motion.png
    python examples/motion_field.py holiday.mp4 --step 1          motion from the frame before
    python examples/motion_field.py holiday.mp4 --frames 6 --out field.png

A file whose motion cannot be traced (B-frames, several reference frames, HEVC, ...) is transcoded
to a temporary copy first. The title of each frame has the mean error of its prediction from the
earlier frame, without and with motion compensation.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from command_line import BadInputError, Parser, integer, report, require_installed
from numpy.typing import NDArray

from vtnp._registry.printable import printable
from vtnp.checkpoints import FileError, replacing
from vtnp.video import (
    Coded,
    Motion,
    UntraceableError,
    VideoError,
    read_coded,
    token_motion,
    traced,
    transcode,
)

_ARROWS = 32  # per row
_THRESHOLD = 0.004  # share of the width; what moves less has no arrow
_NEEDED = ("av", "matplotlib")
_DPI = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    try:
        options = parsed(arguments)
        require_installed(_NEEDED, "examples")
        coded, source = read(options.file, options.stop)
        draw(options, coded, source)
    except (BadInputError, FileError, VideoError) as error:
        return report("motion_field.py", error)
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = Parser(__doc__ or "")
    add, positive = parser.add_argument, integer(1)
    add("file", metavar="FILE", help="a video")
    add("--out", type=Path, metavar="PNG", default=Path("motion.png"), help="default: motion.png")
    add("--frames", type=positive, default=4, help="how many to draw (default: 4)")
    add("--step", type=positive, default=4, help="distance to the earlier frame (default: 4)")
    add("--stop", type=positive, default=120, help="how many frames to read (default: 120)")
    return parser.parse_args(arguments)


def read(file: str, stop: int) -> tuple[Coded, str]:
    """Return a video's frames and motion vectors, and the source of the vectors."""
    try:
        return read_coded(file, gray=True, stop=stop), "motion vectors of the file"
    except UntraceableError as error:
        print(f"{error}\nTranscoding a temporary copy ...", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy.mkv")
        transcode(file, copy, stop=stop)
        return read_coded(copy, gray=True), "motion vectors of a copy transcoded to H.264"


def draw(options: argparse.Namespace, coded: Coded, source: str) -> None:
    """Draw frames with their motion; source: of the motion vectors."""
    count = len(coded.frames)
    if count <= options.step:
        raise BadInputError(
            f"{options.file}: --step {options.step} needs more than the {count} frames read"
        )
    chosen = np.unique(np.linspace(options.step, count - 1, options.frames + 2).round().astype(int))
    chosen = chosen[1:-1] if len(chosen) > options.frames else chosen[: options.frames]
    plt = _pyplot()
    height, width = coded.frames.shape[1:3]
    columns = min(len(chosen), 2 if width >= height else 4)
    rows = -(-len(chosen) // columns)
    panel = 13.0 / columns
    figure, panels = plt.subplots(
        rows, columns, squeeze=False, layout="constrained",
        figsize=(13.0, rows * (panel * height / width + 0.3) + 0.7),
    )  # fmt: skip
    grid = max(1, round(_ARROWS * height / width)), min(_ARROWS, width)
    fields = [token_motion(coded, [t - options.step, t], grid) for t in chosen]
    for t, field, axes in zip(chosen, fields, panels.flat, strict=False):
        _draw_frame(axes, coded, int(t), options.step, field, grid)
    for axes in list(panels.flat)[len(chosen) :]:
        axes.set_axis_off()
    before = "one frame" if options.step == 1 else f"{options.step} frames"
    figure.suptitle(
        f"{printable(Path(options.file).name)}: arrows point from where content was {before} "
        f"before to where it is\n{source}; crosses: no motion vector",
        fontsize=12,
        parse_math=False,
    )
    try:
        with replacing(options.out) as temporary:
            figure.savefig(temporary, format="png", dpi=_DPI)
    except OSError as error:
        raise BadInputError(f"cannot write {options.out}: {error.strerror}") from None
    plt.close(figure)
    print(f"{printable(options.out)}: frames {', '.join(map(str, chosen))} of {count}")


def _draw_frame(
    axes: Any, coded: Coded, t: int, step: int, field: Motion, grid: tuple[int, int]
) -> None:
    h, w = grid
    image = coded.frames[t, :, :, 0]
    height, width = image.shape
    cell = np.array([width / w, height / h])
    # Faint, so that arrows are visible on any background.
    axes.imshow(0.5 * image + 120, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    centre = (
        np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).reshape(-1, 2) + 0.5
    ) * cell
    back, known = field.motion[1, :, 0] * cell, field.known[1, :, 0]
    axes.plot(*centre[known < 0.5].T, "x", color="black", markersize=3, markeredgewidth=0.7)
    moves = (np.hypot(*back.T) > _THRESHOLD * width) & (known >= 0.5)
    start, arrow = (centre + back)[moves], -back[moves]
    axes.quiver(
        *start.T, *arrow.T, color=colours(arrow), angles="xy", scale_units="xy", scale=1,
        width=0.0034, headwidth=3.4, headlength=4.0, headaxislength=3.6, minlength=0,
        edgecolor="black", linewidth=0.35,
    )  # fmt: skip
    motion = traced(coded, t, t - step).motion
    still, moved = (error_of(coded, t, t - step, m) for m in (np.zeros_like(motion), motion))
    axes.set_title(
        f"frame {t} predicted from {t - step}: error {still:.1f} without motion, {moved:.1f} with",
        fontsize=10,
    )
    axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))


def error_of(coded: Coded, t: int, u: int, motion: NDArray[np.float64]) -> float:
    """Return the mean absolute error of frame t predicted from the pixels of frame u."""
    target, source = (coded.frames[i, :, :, 0].astype(float) for i in (t, u))
    height, width = target.shape
    y = np.clip(np.rint(np.arange(height)[:, None] + motion[..., 1]), 0, height - 1).astype(int)
    x = np.clip(np.rint(np.arange(width) + motion[..., 0]), 0, width - 1).astype(int)
    return float(np.abs(target - source[y, x]).mean())


def colours(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a colour for each direction: x to the right, y down."""
    from matplotlib.colors import hsv_to_rgb

    hue = (np.arctan2(vectors[:, 1], vectors[:, 0]) / (2 * np.pi)) % 1.0
    return np.asarray(hsv_to_rgb(np.stack([hue, np.ones_like(hue), 0.95 * np.ones_like(hue)], -1)))


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


if __name__ == "__main__":
    sys.exit(main())
