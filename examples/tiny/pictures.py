"""The pictures of a run: its learning curve, and what the trained model attends to."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp.checkpoints import replacing
from vtnp.cost.plot import separated

_DPI = 120


class Example(NamedTuple):
    """A clip, `T H W C`, the names of its label and of the prediction, and its view, `t h w`."""

    clip: NDArray[Any]
    label: str
    predicted: str
    view: NDArray[Any]


def learning_curve(
    path: Path,
    title: str,
    losses: list[float],
    accuracies: list[tuple[int, float]],
    chance: float,
) -> None:
    """Draw the loss of each step, and the held-out accuracy beside chance."""
    plt = _pyplot()
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8, 7), sharex=True, layout="constrained", height_ratios=(1, 1)
    )
    figure.suptitle(title)
    steps = np.arange(1, len(losses) + 1)
    above.plot(steps, losses, color="tab:blue", alpha=0.35, linewidth=1, label="each step")
    width = max(1, len(losses) // 20)
    if len(losses) >= 2 * width:
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        middle = steps[(width - 1) // 2 :][: len(smooth)]
        above.plot(middle, smooth, color="tab:blue", label=f"mean of {width} steps")
    above.set(ylabel="training loss (cross entropy)", ylim=(0, None))
    at, values = zip(*accuracies, strict=True)
    percent = 100 * np.array(values)
    below.plot(at, percent, color="tab:orange", marker="o", label="held-out clips")
    below.axhline(100 * chance, color="gray", linestyle="--", label=f"chance, {chance:.1%}")
    up = values[-1] < 0.5
    below.annotate(
        f"{values[-1]:.1%}", (at[-1], percent[-1]), (0, 8 if up else -8),
        textcoords="offset points", ha="right", va="bottom" if up else "top",
    )  # fmt: skip
    below.set(xlabel="step", ylabel="accuracy (%)", ylim=(0, 103))
    for axes in (above, below):
        axes.grid(alpha=0.3)
        # Above the axes, where no curve can run through it.
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    _save(figure, path)


def views(path: Path, title: str, unit: str, examples: list[Example]) -> None:
    """Draw each clip twice: its frames, and the view of it under the outlines of the frames.

    Outlines, because a translucent picture would change the colours of the scale.
    """
    plt = _pyplot()
    frames = len(examples[0].clip)
    figure, rows = plt.subplots(
        2 * len(examples),
        frames,
        figsize=(1.35 * frames + 1.6, 3.1 * len(examples) + 0.8),
        layout="constrained",
        squeeze=False,
    )
    figure.suptitle(title)
    # One scale for all clips, so that colours can be compared.
    maximum = 100 * max(example.view.max() for example in examples)
    for example, plain, laid in zip(examples, rows[::2], rows[1::2], strict=True):
        images = example.clip[..., 0]  # further channels may hold motion
        darkest, brightest = images.min(), images.max()
        for frame, (above, below) in enumerate(zip(plain, laid, strict=True)):
            image = images[frame]
            above.imshow(image, cmap="gray", vmin=darkest, vmax=brightest)
            height, width = image.shape
            heat = below.imshow(
                100 * example.view[frame], cmap="inferno", vmin=0, vmax=maximum,
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            )  # fmt: skip
            halfway = (darkest + brightest) / 2
            if image.min() < halfway < image.max():
                below.contour(
                    image, levels=[halfway], colors="deepskyblue", linewidths=1, linestyles="solid"
                )
            above.set_title(f"frame {frame + 1}", fontsize=10)
        for axes in (*plain, *laid):
            axes.set(xticks=[], yticks=[])
        plain[0].set_ylabel(f"label:\n{example.label}")
        laid[0].set_ylabel(f"predicted:\n{example.predicted}")
    figure.colorbar(heat, ax=rows, label=f"{unit} (%)", shrink=0.8)
    _save(figure, path)


def comparison(path: Path, results: dict[str, Any]) -> None:
    """Draw the accuracy of each model over training time, multiply-adds, and number of weights."""
    plt = _pyplot()
    models, budget, chance = results["models"], results["budget"], 100 * results["chance"]
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(18, 7), sharey=True, layout="constrained", width_ratios=(1.2, 1, 1)
    )
    figure.suptitle(
        f"{models[0]['task']}: {budget['clips']} clips in {budget['steps']} steps for each model"
    )
    names = _short_names(models)
    colors = plt.get_cmap("tab10").colors
    ends = []
    for i, model in enumerate(models):
        seconds = [point["seconds"] for point in model["curve"]]
        percent = [100 * point["accuracy"] for point in model["curve"]]
        color, marker = colors[i % len(colors)], _MARKERS[i // len(colors) % len(_MARKERS)]
        left.plot(seconds, percent, color=color, marker=marker, markersize=3)
        end = {"color": color, "marker": marker, "markersize": 9, "markeredgecolor": "white"}
        left.plot(seconds[-1], percent[-1], **end)
        middle.plot(model["multiply_adds"] / 1e6, percent[-1], **end)
        right.plot(model["weights"] / 1000, percent[-1], **end)
        coordinates = seconds[-1], model["multiply_adds"] / 1e6, model["weights"] / 1000
        ends.append((coordinates, percent[-1], color))
    for axes in (left, middle, right):
        axes.axhline(chance, color="gray", linestyle="--", zorder=0)
        axes.annotate(
            f"chance, {chance:.1f}%", (1, chance), (-4, -6), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="right", va="top", color="gray",
        )  # fmt: skip
        axes.grid(alpha=0.3)
        axes.set(ylim=(0, 105))
    left.set(xlabel="seconds of training", ylabel="held-out accuracy (%)", xlim=(0, None))
    middle.set(xlabel="multiply-adds per clip (millions)")
    right.set(xlabel="weights (thousands)")
    for axes in (middle, right):
        axes.margins(x=0.12)
    for at, axes in enumerate((left, middle, right)):
        _label_above(axes, [(coordinates[at], *end) for coordinates, *end in ends], names)
    _save(figure, path)


_MARKERS = "osD^v"
_LETTER, _SLANT = 0.055, 45  # share of an axes' width between two names; their angle


def _short_names(models: list[dict[str, Any]]) -> list[str]:
    """Name each model, with its scheme where there are several of it."""
    of_model = [model["model"] for model in models]
    return [
        f"{model['model']} {model['scheme']}" if of_model.count(model["model"]) > 1 else name
        for model, name in zip(models, of_model, strict=True)
    ]


def _label_above(axes: Any, ends: list[tuple[float, float, Any]], names: list[str]) -> None:
    """Write names above the axes, each connected to its point by a thin line.

    A name is above its point, or as near to that as its neighbours allow.
    """
    low, high = axes.get_xlim()
    axes.set_xlim(low, high)
    wanted = [(x - low) / (high - low) for x, _, _ in ends]
    positions = separated(wanted, _LETTER, 0.0, 1.0)
    for name, (x, y, color), position in zip(names, ends, positions, strict=True):
        axes.annotate(
            name, (x, y), (position, 1.04), xycoords="data", textcoords="axes fraction",
            rotation=_SLANT, rotation_mode="anchor", color=color, fontsize=11,
            arrowprops={
                "arrowstyle": "-", "color": color, "alpha": 0.5, "linewidth": 0.8,
                "relpos": (0, 0), "shrinkA": 0,
            },
        )  # fmt: skip


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)
    _pyplot().close(figure)
