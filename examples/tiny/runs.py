"""One run: its settings, its state, and the checkpoint that holds both."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tiny.training import Optimiser, filled, fresh

from vtnp.checkpoints import FileError, load, save
from vtnp.models import tree_leaves

CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "weights.safetensors"


@dataclass(frozen=True)
class Settings:
    """All that a run's result depends on, except for the data."""

    model: str
    scheme: str
    steps: int
    batch: int
    seed: int
    dtype: str


@dataclass
class State:
    """The state of a run.

    losses: of every step. accuracies: pairs of a step and the held-out accuracy after it. clock:
    seconds that the steps had taken at each of these. step_seconds, wall_seconds: seconds that the
    steps, and the whole run, have taken so far.
    """

    params: Any
    optimiser: Optimiser
    rng: np.random.Generator
    losses: list[float] = field(default_factory=list)
    accuracies: list[tuple[int, float]] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    step_seconds: float = 0.0
    wall_seconds: float = 0.0

    @property
    def step(self) -> int:
        return len(self.losses)


@dataclass(frozen=True)
class Checkpoint:
    """The contents of a checkpoint file, not yet checked against a model."""

    path: Path
    settings: Settings
    video: str | None
    data: str
    arrays: dict[str, Any]
    state: dict[str, Any]


def write(path: Path, settings: Settings, video: str | None, data: str, state: State) -> None:
    """Write a checkpoint: weights, optimiser, random numbers, learning curve, settings."""
    tables = {"params": dict(tree_leaves(state.params)), **state.optimiser._asdict()}
    arrays = {f"{kind}.{name}": x for kind, table in tables.items() for name, x in table.items()}
    progress = {
        "rng": state.rng.bit_generator.state,
        "losses": state.losses,
        "accuracies": state.accuracies,
        "clock": state.clock,
        "step_seconds": state.step_seconds,
        "wall_seconds": state.wall_seconds,
    }
    metadata = {
        "settings": dataclasses.asdict(settings), "video": video, "data": data, "state": progress,
    }  # fmt: skip
    save(path, arrays, {key: json.dumps(value) for key, value in metadata.items()})


def write_weights(path: Path, settings: Settings, params: Any) -> None:
    """Write the weights alone."""
    save(path, dict(tree_leaves(params)), {"settings": json.dumps(dataclasses.asdict(settings))})


def read(location: Path) -> Checkpoint:
    """Read a checkpoint from its file, or from the folder of its run.

    Raises FileError.
    """
    path = location / CHECKPOINT if location.is_dir() else location
    arrays, metadata = load(path)
    try:
        values = {key: json.loads(metadata[key]) for key in ("settings", "video", "data", "state")}
        settings = _checked(Settings(**values["settings"]))
    except (KeyError, RecursionError, TypeError, ValueError):
        raise FileError(f"{path}: not a checkpoint of train_tiny.py") from None
    return Checkpoint(path, settings, values["video"], values["data"], arrays, values["state"])


def resumed(checkpoint: Checkpoint, params: Any) -> State:
    """Return the state in a checkpoint; params: of its model, for their structure and shapes.

    Raises FileError where the arrays are not those of the model.
    """
    optimiser = fresh(params)
    tables = {"params": dict(tree_leaves(params)), **optimiser._asdict()}
    expected = {f"{kind}.{name}": x for kind, table in tables.items() for name, x in table.items()}
    if _shapes(expected) != _shapes(checkpoint.arrays):
        raise FileError(f"{checkpoint.path}: its arrays are not those of the model it names")
    for kind, table in tables.items():
        table.update({name: checkpoint.arrays[f"{kind}.{name}"] for name in table})
    try:
        progress = dict(checkpoint.state)
        rng = np.random.default_rng()
        rng.bit_generator.state = progress.pop("rng")
        progress["accuracies"] = [(step, value) for step, value in progress["accuracies"]]
        params = filled(params, tables.pop("params"))
        state = State(params, Optimiser(**tables), rng, **progress)
        _check(state, checkpoint.settings.steps)
    except (ArithmeticError, KeyError, TypeError, ValueError):
        raise FileError(f"{checkpoint.path}: its state cannot be read") from None
    return state


def _checked(settings: Settings) -> Settings:
    """Return settings; raise ValueError for those of other types, and for sizes below 1."""
    fields = dataclasses.fields(settings)
    if any(type(getattr(settings, field.name)) is not field.type for field in fields):
        raise ValueError("a setting of another type")
    if min(settings.steps, settings.batch) < 1 or settings.seed < 0:
        raise ValueError("a size below 1")
    return settings


def _check(state: State, steps: int) -> None:
    """Raise ValueError unless the learning curve of a state is one of so many steps."""
    evaluated, accuracies = [step for step, _ in state.accuracies], [x for _, x in state.accuracies]
    times = [*state.clock, state.step_seconds, state.wall_seconds]
    for x in (*state.losses, *accuracies, *times):
        if type(x) not in (int, float) or not math.isfinite(x):
            raise ValueError(f"{x!r} is not a number")
    if any(type(step) is not int or not 1 <= step <= state.step for step in evaluated):
        raise ValueError("an evaluation after a step that has not been")
    if len(state.clock) != len(evaluated) or state.step > steps:
        raise ValueError("more steps or times than there can be")


def _shapes(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: (x.dtype, x.shape) for name, x in arrays.items()}
