"""A comparison of models that were trained with the same budget."""

import json
from pathlib import Path
from typing import Any

from tiny import pictures

from vtnp.checkpoints import replacing

PICTURE, FIGURES = "compare.png", "compare.json"


def write(out: Path, runs: list[dict[str, Any]], versions: dict[str, str]) -> None:
    """Write the comparison of runs to a folder; runs: the contents of their run.json."""
    budget = {name: runs[0]["settings"][name] for name in ("steps", "batch", "seed", "dtype")}
    results = {
        "budget": budget | {"clips": budget["steps"] * budget["batch"]},
        "video": runs[0]["data"]["video"],
        "chance": runs[0]["figures"]["chance"],
        "held_out_clips": runs[0]["figures"]["held_out_clips"],
        "models": [_result(run) for run in runs],
        "versions": versions,
    }
    with replacing(out / FIGURES) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")
    pictures.comparison(out / PICTURE, results)


def _result(run: dict[str, Any]) -> dict[str, Any]:
    settings, figures, times = run["settings"], run["figures"], run["times"]
    evaluations = zip(figures["accuracies"], times["clock"], strict=True)
    return {
        "model": settings["model"],
        "scheme": settings["scheme"],
        "task": run["data"]["task"],
        "weights": figures["weights"],
        "multiply_adds": figures["multiply_adds"],
        "accuracy": figures["accuracy"],
        "seconds_per_step": times["seconds_per_step"],
        "wall_seconds": times["wall_seconds"],
        "curve": [
            {"step": step, "seconds": seconds, "accuracy": accuracy}
            for (step, accuracy), seconds in evaluations
        ],
    }
