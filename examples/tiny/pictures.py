"""The pictures of a run: its learning curve, and what the trained model looks at."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtnp.checkpoints import replacing

_DPI = 120


class Example(NamedTuple):
    """A clip, `T H W C`, the words for its label and for the model's, and what was looked at."""

    clip: NDArray[Any]
    label: str
    predicted: str
    attention: NDArray[Any]


def learning_curve(
    path: Path,
    title: str,
    losses: list[float],
    accuracies: list[tuple[int, float]],
    chance: float,
) -> None:
    """Draw the loss of each step, and the held-out accuracy with chance beside it."""
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


def attention_maps(path: Path, title: str, examples: list[Example]) -> None:
    """Draw each clip twice: its frames, and the attention with the frames' outlines over it.

    Outlines, for a picture shining through would change the colours that the scale explains.
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
    most = 100 * max(example.attention.max() for example in examples)
    for example, plain, laid in zip(examples, rows[::2], rows[1::2], strict=True):
        for frame, (above, below) in enumerate(zip(plain, laid, strict=True)):
            image = example.clip[frame, :, :, 0]
            darkest, brightest = example.clip.min(), example.clip.max()
            above.imshow(image, cmap="gray", vmin=darkest, vmax=brightest)
            height, width = image.shape
            heat = below.imshow(
                100 * example.attention[frame], cmap="inferno", vmin=0, vmax=most,
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
    figure.colorbar(heat, ax=rows, label="share of the class token's attention (%)", shrink=0.8)
    _save(figure, path)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save(figure: Any, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)
    _pyplot().close(figure)
