"""Draw the motion that a video's codec has found: a few frames, with arrows along what moves.

    python examples/motion_field.py holiday.mp4                   four frames, into motion.png
    python examples/motion_field.py holiday.mp4 --step 1          motion since the frame before
    python examples/motion_field.py holiday.mp4 --frames 6 --out field.png

A file whose vectors cannot be traced (B-frames, several references, HEVC, ...) is encoded to plain
H.264 first, in a temporary copy. Above each frame stands how well it is predicted from the earlier
one: as it is, and moved along the arrows.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

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

_ACROSS = 32  # arrows in a row
_SHOWN = 0.004  # of the width; what moves less has no arrow
_DPI = 120


class BadInputError(Exception):
    """What the user asked for cannot be done; the message is one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInputError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    try:
        options = parsed(arguments)
        coded, how = read(options.file, options.stop)
        draw(options, coded, how)
    except (BadInputError, FileError, VideoError) as error:
        print(f"motion_field.py: {error}", file=sys.stderr)
        return 2
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = _Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="a video")
    add("--out", type=Path, metavar="PNG", default=Path("motion.png"), help="default: motion.png")
    add("--frames", type=_count, default=4, help="how many to show (default: 4)")
    add("--step", type=_count, default=4, help="frames from the earlier one (default: 4)")
    add("--stop", type=_count, default=120, help="read so many frames (default: 120)")
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_count.__name__ = "whole number >= 1"  # argparse names a type by this when a text is not one


def read(file: str, stop: int) -> tuple[Coded, str]:
    """Read a video's frames and vectors, and tell whose vectors they are."""
    try:
        return read_coded(file, gray=True, stop=stop), "the file's own vectors"
    except UntraceableError as error:
        print(f"{error}: encoding a copy", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy.mkv")
        transcode(file, copy, stop=stop)
        return read_coded(copy, gray=True), "vectors of a copy encoded to plain H.264"


def draw(options: argparse.Namespace, coded: Coded, how: str) -> None:
    """Draw the frames and their motion."""
    count = len(coded.frames)
    if count <= options.step:
        raise BadInputError(
            f"{options.file}: {count} frames read, more than --step {options.step} are needed"
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
    grid = max(1, round(_ACROSS * height / width)), min(_ACROSS, width)
    fields = [token_motion(coded, [t - options.step, t], grid) for t in chosen]
    for t, field, axes in zip(chosen, fields, panels.flat, strict=False):
        _draw_frame(axes, coded, int(t), options.step, field, grid)
    for axes in list(panels.flat)[len(chosen) :]:
        axes.set_axis_off()
    since = "the frame before" if options.step == 1 else f"{options.step} frames before"
    figure.suptitle(
        f"{Path(options.file).name}: each arrow leads from where something was {since} "
        f"to where it is\n{how}; crosses: coded without a vector",
        fontsize=12,
    )
    try:
        with replacing(options.out) as temporary:
            figure.savefig(temporary, format="png", dpi=_DPI)
    except OSError as error:
        raise BadInputError(f"cannot write {options.out}: {error.strerror}") from None
    plt.close(figure)
    print(f"{options.out}: frames {', '.join(map(str, chosen))} of {count}")


def _draw_frame(
    axes: Any, coded: Coded, t: int, step: int, field: Motion, grid: tuple[int, int]
) -> None:
    h, w = grid
    image = coded.frames[t, :, :, 0]
    height, width = image.shape
    cell = np.array([width / w, height / h])
    # Faint, so that arrows stand out whatever is behind them.
    axes.imshow(0.5 * image + 120, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    place = (np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).reshape(-1, 2) + 0.5) * cell
    back, known = field.motion[1, :, 0] * cell, field.known[1, :, 0]
    axes.plot(*place[known < 0.5].T, "x", color="black", markersize=3, markeredgewidth=0.7)
    moves = (np.hypot(*back.T) > _SHOWN * width) & (known >= 0.5)
    start, way = (place + back)[moves], -back[moves]
    axes.quiver(
        *start.T, *way.T, color=colours(way), angles="xy", scale_units="xy", scale=1,
        width=0.0034, headwidth=3.4, headlength=4.0, headaxislength=3.6, minlength=0,
        edgecolor="black", linewidth=0.35,
    )  # fmt: skip
    motion = traced(coded, t, t - step).motion
    none, moved = (error_of(coded, t, t - step, m) for m in (np.zeros_like(motion), motion))
    axes.set_title(
        f"frame {t} from frame {t - step}: mean error {none:.1f} as it is, {moved:.1f} moved",
        fontsize=10,
    )
    axes.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))


def error_of(coded: Coded, t: int, u: int, motion: NDArray[np.float64]) -> float:
    """Return the mean absolute error of frame t put together from the pixels of frame u."""
    target, source = (coded.frames[i, :, :, 0].astype(float) for i in (t, u))
    height, width = target.shape
    y = np.clip(np.rint(np.arange(height)[:, None] + motion[..., 1]), 0, height - 1).astype(int)
    x = np.clip(np.rint(np.arange(width) + motion[..., 0]), 0, width - 1).astype(int)
    return float(np.abs(target - source[y, x]).mean())


def colours(way: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give each direction a colour of its own: x to the right, y down."""
    from matplotlib.colors import hsv_to_rgb

    hue = (np.arctan2(way[:, 1], way[:, 0]) / (2 * np.pi)) % 1.0
    return np.asarray(hsv_to_rgb(np.stack([hue, np.ones_like(hue), 0.95 * np.ones_like(hue)], -1)))


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


if __name__ == "__main__":
    sys.exit(main())
