"""Cost against length, for the attention of every system, drawn on log axes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from vtnp._registry.errors import UsageError
from vtnp._registry.spec import registry
from vtnp.checkpoints.files import replacing
from vtnp.cost import counted
from vtnp.cost.sizes import call, names
from vtnp.cost.sweep import growth

_GRID = (14, 14)
_PLACES = 196
_WIDTH = 64  # of one head
_COLORS = (*(f"C{i}" for i in range(10)), "black")
_FRAMES = tuple(8 * 4**k for k in range(11))  # to 1.6 * 10^9 tokens


@dataclass(frozen=True)
class Scheme:
    """One way to attend: the formulas that make it up, and their sizes for so many frames.

    Each formula takes those sizes that it knows.
    """

    name: str
    formulas: tuple[str, ...]
    sizes: Callable[[int], dict[str, Any]]

    def cost(self, frames: int) -> int:
        """Return the multiply-adds of one head over a video of so many frames."""
        sizes = self.sizes(frames)
        calls = [
            call(id, **{name: size for name, size in sizes.items() if name in names(id)})
            for id in self.formulas
        ]
        costs = [counted(registry[each.id].function, **each.arguments) for each in calls]
        return sum(cost.multiply_adds for cost in costs)


def _video(frames: int) -> dict[str, Any]:
    return {"t": frames, "s": _PLACES, "d_k": _WIDTH, "d_v": _WIDTH}


def _on_grid(frames: int) -> dict[str, Any]:
    return _video(frames) | {"grid": _GRID}


def _trajectories(frames: int) -> dict[str, Any]:
    return {"t": frames, "s": _PLACES, "d": _WIDTH, "d_v": _WIDTH}


def _sequence(frames: int) -> dict[str, Any]:
    return {"n": frames * _PLACES, "d": _WIDTH, "d_v": _WIDTH}


SCHEMES = (
    Scheme("joint", ("joint-attention",), _video),
    Scheme("trajectory", ("trajectory-tokens",), _trajectories),
    Scheme("local + global", ("local-attention", "global-attention"), _on_grid),
    Scheme(
        "pooled, keys 8 x 8",
        ("pooling-attention",),
        lambda frames: {"n": frames * _PLACES, "m": frames * _PLACES // 64, "d_h": _WIDTH},
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
        lambda frames: {"n": frames * _PLACES, "heads": 1, "d_k": _WIDTH, "d_v": _WIDTH},
    ),
    Scheme(
        "deformable, sub-clips of 8",
        ("deformable-attention",),
        lambda frames: {"batch": (frames // 8,), "t": 8, "u": 8, "grid": _GRID, "d": _WIDTH},
    ),
    Scheme("space only", ("space-attention",), _video),
)


def draw(file: Path, schemes: tuple[Scheme, ...] = SCHEMES) -> None:
    """Draw the multiply-adds of each scheme over the length; each label ends with the slope.

    Raises UsageError without Matplotlib, or for a kind of file that it does not write.
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
    lengths = [frames * _PLACES for frames in _FRAMES]
    ends = []
    for i, scheme in enumerate(schemes):
        costs = [scheme.cost(frames) for frames in _FRAMES]
        # Every second one is broken, so that lines that coincide are both seen.
        style = {
            "color": _COLORS[i % len(_COLORS)],
            "marker": "os^vD*"[i % 6],
            "linestyle": ("-", "--")[i % 2],
        }
        (line,) = axes.loglog(lengths, costs, markersize=4, **style)
        slope = growth(lengths[-2], costs[-2], lengths[-1], costs[-1])
        label = f"{scheme.name}: {slope:.2f}"
        ends.append((math.log10(costs[-1]), label, line.get_color()))
    axes.set_title(
        "Multiply-adds of one head of width 64 over a video of 14 x 14 patches per frame\n"
        "(attention alone, without projections; behind each name its slope at the right end)"
    )
    axes.set_xlabel("tokens")
    axes.set_ylabel("multiply-adds")
    axes.grid(visible=True, which="major", alpha=0.3)
    low, high = (math.log10(y) for y in axes.get_ylim())
    places = apart([end for end, _, _ in ends], (high - low) / 24)
    for place, (end, label, color) in zip(places, ends, strict=True):
        axes.annotate(
            label, xy=(lengths[-1], 10**end), xytext=(1.03, (place - low) / (high - low)),
            textcoords="axes fraction", color=color, va="center", fontsize=9,
            arrowprops={"arrowstyle": "-", "color": color, "alpha": 0.5},
        )  # fmt: skip
    with replacing(file) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)


def apart(
    places: Sequence[float], gap: float, low: float = -math.inf, high: float = math.inf
) -> list[float]:
    """Move places apart to a gap at least, as little as can be, within low and high if they fit.

    The places in order, less what the gaps take, are to rise again: isotonic regression, by pooling
    neighbours that do not into their mean.
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    pools: list[list[float]] = []
    for k, i in enumerate(order):
        pools.append([places[i] - k * gap])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    risen = [fmean(pool) for pool in pools for _ in pool]
    highest = max(low, high - (len(places) - 1) * gap)
    moved = list(places)
    for k, i in enumerate(order):
        moved[i] = min(max(risen[k], low), highest) + k * gap
    return moved
