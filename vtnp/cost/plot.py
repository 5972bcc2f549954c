"""A plot of the cost of every attention scheme over the length of a video, on log axes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from vtnp._registry.errors import UsageError
from vtnp._registry.spec import registry
from vtnp.checkpoints.replacement import replacing
from vtnp.cost.counting import counted
from vtnp.cost.sizes import size_names, sized_call
from vtnp.cost.sweep import growth

_GRID = (14, 14)
_POSITIONS = math.prod(_GRID)
_WIDTH = 64  # of one head
_COLORS = (*(f"C{i}" for i in range(10)), "black")
_FRAMES = tuple(8 * 4**k for k in range(11))  # to 1.6 * 10^9 tokens


@dataclass(frozen=True)
class Scheme:
    """An attention scheme: the formulas that it consists of, and sizes for a number of frames.

    Each formula takes the sizes that it has a name for.
    """

    name: str
    formulas: tuple[str, ...]
    sizes: Callable[[int], dict[str, Any]]

    def cost(self, frames: int) -> int:
        """Return the multiply-adds of one head over a video of that many frames."""
        sizes = self.sizes(frames)
        calls = [
            sized_call(id, **{k: size for k, size in sizes.items() if k in size_names(id)})
            for id in self.formulas
        ]
        costs = [counted(registry[each.id].function, **each.arguments) for each in calls]
        return sum(cost.multiply_adds for cost in costs)


def _video(frames: int) -> dict[str, Any]:
    return {"t": frames, "s": _POSITIONS, "d_k": _WIDTH, "d_v": _WIDTH}


def _on_grid(frames: int) -> dict[str, Any]:
    return _video(frames) | {"grid": (frames, *_GRID)}


def _trajectories(frames: int) -> dict[str, Any]:
    return {"t": frames, "s": _POSITIONS, "d": _WIDTH, "d_v": _WIDTH}


def _sequence(frames: int) -> dict[str, Any]:
    return {"n": frames * _POSITIONS, "d": _WIDTH, "d_v": _WIDTH}


SCHEMES = (
    Scheme("joint", ("joint-attention",), _video),
    Scheme("trajectory", ("trajectory-tokens",), _trajectories),
    Scheme("local + global", ("local-attention", "global-attention"), _on_grid),
    Scheme(
        "pooled, keys 8 x 8",
        ("pooling-attention",),
        lambda frames: {"n": frames * _POSITIONS, "m": frames * _POSITIONS // 64, "d_h": _WIDTH},
    ),
    Scheme(
        "Orthoformer, 128 prototypes",
        ("prototype-trajectory-tokens",),
        lambda frames: _trajectories(frames) | {"g": 1, "r": 128},
    ),
    Scheme("divided", ("time-attention", "space-attention"), _video),
    Scheme("axial", ("time-attention", "width-attention", "height-attention"), _on_grid),
    Scheme(
        "Nyström, 64 landmarks",
        ("nystrom-attention",),
        lambda frames: _sequence(frames) | {"landmarks": 64},
    ),
    Scheme(
        "dilated",
        ("dilated-attention",),
        lambda frames: {"n": frames * _POSITIONS, "heads": 1, "d_k": _WIDTH, "d_v": _WIDTH},
    ),
    Scheme(
        "deformable, sub-clips of 8",
        ("deformable-attention",),
        lambda frames: {"batch": (frames // 8,), "t": 8, "u": 8, "d": _WIDTH},
    ),
    Scheme("space only", ("space-attention",), _video),
)


def draw(file: Path, schemes: tuple[Scheme, ...] = SCHEMES) -> None:
    """Draw the multiply-adds of attention schemes over the number of tokens.

    Parameters
    ----------
    file : path
        The picture; its name ends in .png, .svg, .pdf or another format of Matplotlib.
    schemes : tuple of Scheme, optional
        What is drawn; left out, the attention of every system.

    Raises
    ------
    UsageError
        If Matplotlib is not installed, or does not write that format.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("matplotlib not found: pip install 'vtnp[examples]'") from None
    kind = file.suffix.removeprefix(".")
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    known = figure.canvas.get_supported_filetypes()
    if kind not in known:
        raise UsageError(f"{file}: the name must end with one of .{', .'.join(sorted(known))}")
    axes = figure.add_subplot()
    lengths = [frames * _POSITIONS for frames in _FRAMES]
    ends = []
    for i, scheme in enumerate(schemes):
        costs = [scheme.cost(frames) for frames in _FRAMES]
        # Every second line is dashed, so that lines that coincide are both visible.
        style = {
            "color": _COLORS[i % len(_COLORS)],
            "marker": "os^vD*"[i % 6],
            "linestyle": ("-", "--")[i % 2],
        }
        (line,) = axes.loglog(lengths, costs, markersize=4, **style)
        exponent = growth(lengths[-2], costs[-2], lengths[-1], costs[-1])
        label = f"{scheme.name}: {exponent:.2f}"
        ends.append((math.log10(costs[-1]), label, line.get_color()))
    axes.set_title(
        "Multiply-adds of one head of width 64 over a video of 14 x 14 patches per frame\n"
        "(attention alone, without projections; after each name, the slope at the right end)"
    )
    axes.set_xlabel("tokens")
    axes.set_ylabel("multiply-adds (MACs)")
    axes.grid(visible=True, which="major", alpha=0.3)
    low, high = (math.log10(y) for y in axes.get_ylim())
    heights = separated([end for end, _, _ in ends], (high - low) / 24)
    for height, (end, label, color) in zip(heights, ends, strict=True):
        axes.annotate(
            label, xy=(lengths[-1], 10**end), xytext=(1.03, (height - low) / (high - low)),
            textcoords="axes fraction", color=color, va="center", fontsize=9,
            arrowprops={"arrowstyle": "-", "color": color, "alpha": 0.5},
        )  # fmt: skip
    with replacing(file) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)


def separated(
    positions: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf
) -> list[float]:
    """Move positions until they are a gap apart, as little as possible.

    They stay between low and high if they fit there. In order, and less what the gaps take, they
    must not fall: isotonic regression, which pools neighbours that fall into their mean.
    """
    order = sorted(range(len(positions)), key=positions.__getitem__)
    pools: list[list[float]] = []
    for k, i in enumerate(order):
        pools.append([positions[i] - k * gap])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    means = [fmean(pool) for pool in pools for _ in pool]
    highest = max(low, high - (len(positions) - 1) * gap)
    moved = list(positions)
    for k, i in enumerate(order):
        moved[i] = min(max(means[k], low), highest) + k * gap
    return moved
