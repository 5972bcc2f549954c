"""Train a tiny video transformer, made of vtnp's formulas alone, on a real task in a minute.

    python examples/train_tiny.py                       in which direction does a digit move?
    python examples/train_tiny.py --scheme axial        the same, with axial attention
    python examples/train_tiny.py --model motionformer  the same, with another model
    python examples/train_tiny.py --compare             all models, with the same budget
    python examples/train_tiny.py --video holiday.mp4   video pace prediction on clips of a video
    python examples/train_tiny.py --resume runs/...     continue an interrupted run

The folder --out (default: runs/MODEL-SCHEME) receives the learning curve, a picture of what the
model attends to, run.json with all results, the weights, and a checkpoint after every evaluation. A
comparison (default: runs/compare) makes such a folder for each model, and compare.png and
compare.json of all of them; the same command continues a comparison that was interrupted.
"""

import argparse
import dataclasses
import importlib
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from command_line import BadInputError, Parser, integer, report, require_installed
from tiny import comparison, pictures, runs, training
from tiny.attention import View
from tiny.clips import paces_of
from tiny.digits import moving_digits
from tiny.models import MODELS
from tiny.runs import Settings, State
from tiny.task import Task

from vtnp.checkpoints import FileError, replacing
from vtnp.cost import counted
from vtnp.models import parts, tree_map
from vtnp.video import VideoError

RUN = "run.json"
_EVALUATIONS = 8
_STEPS = 240
_NEEDED = ("matplotlib", "safetensors", "sklearn", "tqdm")
_DEFAULTS = {"model": "timesformer", "batch": 32, "seed": 0, "dtype": "float32"}


class Device(NamedTuple):
    """Conversions of arrays from NumPy to the library that computes, and back."""

    to_library: Callable[[Any], Any]
    to_numpy: Callable[[Any], Any]


class Run(NamedTuple):
    """What stays the same during a run."""

    settings: Settings
    task: Task
    video: str | None
    out: Path
    device: Device
    apply: Callable[[Any, Any], Any]
    config: Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    continuation = "the same command"
    try:
        options = parsed(arguments)
        require_installed(_NEEDED, "examples")
        if options.compare is not None:
            compare(options)
        else:
            run, state = prepared(options)
            continuation = f"--resume {run.out}"
            train(run, state)
            finish(run, state)
    except (BadInputError, FileError, VideoError) as error:
        return report("train_tiny.py", error)
    except KeyboardInterrupt:
        print(f"\ninterrupted; to continue: {continuation}", file=sys.stderr)
        return 130
    return 0


def compare(options: argparse.Namespace) -> None:
    """Train several models with the same budget, one after the other, and plot them together.

    Models that the comparison's folder has already are continued, or not trained again.
    """
    for name in ("model", "scheme", "resume"):
        if getattr(options, name) is not None:
            raise BadInputError(
                f"--{name} cannot be combined with --compare, which takes MODEL[:SCHEME]"
            )
    out = options.out or Path("runs", "compare")
    results = []
    for settings in compared_settings(options):
        folder = out / f"{settings.model}-{settings.scheme}"
        checkpoint = folder if (folder / runs.CHECKPOINT).exists() else None
        of_run = dataclasses.asdict(settings) | {"out": folder, "resume": checkpoint}
        run, state = prepared(argparse.Namespace(**vars(options) | of_run))
        if state.step < settings.steps or not (folder / RUN).exists():
            train(run, state)
            finish(run, state)
        results.append(json.loads((folder / RUN).read_text()))
    comparison.write(out, results, versions())
    print(f"wrote {out / comparison.PICTURE}")


def compared_settings(options: argparse.Namespace) -> list[Settings]:
    """Return the settings of each model of a comparison, with the same budget for all."""
    all_settings = []
    for name in options.compare or MODELS:
        model, colon, scheme = name.partition(":")
        values = {"steps": _STEPS} | {k: v for k, v in vars(options).items() if v is not None}
        values |= {"model": model, "scheme": scheme if colon else None}
        all_settings.append(resolved(argparse.Namespace(**values), None))
    return list(dict.fromkeys(all_settings))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line; options that are left out are None."""
    parser = Parser(__doc__ or "")
    add, positive = parser.add_argument, integer(1)
    add("--model", help=f"{', '.join(MODELS)} (default: timesformer)")
    add("--scheme", help="a variant of the model; an unknown one lists them (default: the first)")
    add("--compare", nargs="*", metavar="MODEL[:SCHEME]", help="train these, or one of each model")
    add("--steps", type=positive, help=f"training steps in total (default: mostly {_STEPS})")
    add("--batch", type=positive, help="clips per step (default: 32)")
    add("--seed", type=integer(0), help="of weights and clips (default: 0)")
    add("--dtype", choices=("float32", "float64"), help="(default: float32)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="cuda needs CuPy (default: cpu)")
    add("--video", metavar="FILE", help="train on clips of this video")
    add("--out", type=Path, metavar="DIR", help="(default: runs/MODEL-SCHEME)")
    add("--resume", type=Path, metavar="DIR_OR_FILE", help="a run to continue")
    return parser.parse_args(arguments)


def prepared(options: argparse.Namespace) -> tuple[Run, State]:
    """Return a run and its first state, and write the first checkpoint."""
    device = chosen_device(options.device)
    checkpoint = runs.read(options.resume) if options.resume else None
    settings = resolved(options, checkpoint)
    video = options.video or (checkpoint.video if checkpoint else None)
    model = MODELS[settings.model]
    try:
        task = paces_of(video) if video else moving_digits()
        task = model.data(settings.scheme, task)
    except ImportError as error:
        raise BadInputError(str(error)) from None
    if checkpoint and checkpoint.data != task.digest:
        raise BadInputError(f"{checkpoint.path} was trained on other clips than {task.name}")
    config = model.config(settings.scheme, task)
    rng = np.random.default_rng(settings.seed)
    params = model.init(rng, config, dtype=settings.dtype)
    if checkpoint:
        state = runs.resumed(checkpoint, params)
    else:
        state = State(params, training.fresh(params), rng)
    default_out = Path("runs", f"{settings.model}-{settings.scheme}")
    out = options.out or (checkpoint.path.parent if checkpoint else default_out)
    run = Run(
        settings, task, video, out, device,
        lambda params, clips: model.apply(params, clips, config), config,
    )  # fmt: skip
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"cannot make the folder {out}: {error.strerror}") from None
    # Now, so that a folder that cannot be written to is noticed before the training.
    write_checkpoint(run, state)
    converted(state, device.to_library)
    return run, state


def resolved(options: argparse.Namespace, checkpoint: runs.Checkpoint | None) -> Settings:
    """Return all settings: from the options, the checkpoint, or the defaults."""
    values = {
        setting.name: value
        for setting in dataclasses.fields(Settings)
        if (value := getattr(options, setting.name, None)) is not None
    }
    if checkpoint:
        stored = dataclasses.asdict(checkpoint.settings)
        for name, value in values.items():
            if stored[name] != value:
                raise BadInputError(
                    f"{checkpoint.path} is of another configuration: "
                    f"{name} {stored[name]}, not {value}"
                )
        values = stored
    values = _DEFAULTS | values
    if values["model"] not in MODELS:
        raise BadInputError(f"unknown model {values['model']!r}: one of {', '.join(MODELS)}")
    model = MODELS[values["model"]]
    scheme = values.setdefault("scheme", model.schemes[0])
    if scheme not in model.schemes:
        schemes = ", ".join(model.schemes)
        raise BadInputError(f"{values['model']} has no scheme {scheme!r}: one of {schemes}")
    return Settings(**({"steps": model.steps.get(scheme, _STEPS)} | values))


def chosen_device(name: str) -> Device:
    """Return the conversions for a device."""
    if name == "cpu":
        return Device(np.asarray, np.asarray)
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        install = "pip install 'vtnp[cuda12]' or 'vtnp[cuda13]'"
        raise BadInputError(f"--device cuda needs CuPy: {install}") from None
    try:
        cupy.cuda.runtime.getDevice()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BadInputError(f"--device cuda finds no GPU: {error}") from None
    return Device(cupy.asarray, cupy.asnumpy)


def converted(state: State, convert: Callable[[Any], Any]) -> State:
    """Convert all arrays of a state, in place."""
    state.params = tree_map(convert, state.params)
    state.optimiser = training.Optimiser(*(tree_map(convert, table) for table in state.optimiser))
    return state


def write_checkpoint(run: Run, state: State) -> None:
    """Write the state for --resume."""
    on_cpu = converted(dataclasses.replace(state), run.device.to_numpy)
    runs.write(run.out / runs.CHECKPOINT, run.settings, run.video, run.task.digest, on_cpu)


def train(run: Run, state: State) -> None:
    """Train for the remaining steps; evaluate and write a checkpoint at intervals."""
    from tqdm import tqdm

    settings, task = run.settings, run.task
    print(f"{title(run)}: {parts.size(state.params)} weights, {settings.steps} steps", flush=True)
    step_of = training.loss_and_gradient(run.apply)
    one_hot = np.eye(len(task.classes), dtype=settings.dtype)
    begun, seconds_before = time.perf_counter(), state.wall_seconds
    # disable=None: no bar where standard error is not a terminal.
    with tqdm(total=settings.steps, initial=state.step, unit="step", disable=None) as bar:
        while state.step < settings.steps:
            start = time.perf_counter()
            clips, labels = task.draw(state.rng, settings.batch)
            batch = map(run.device.to_library, (clips.astype(settings.dtype), one_hot[labels]))
            loss, gradient = step_of(state.params, *batch)
            if not math.isfinite(float(loss)):
                raise BadInputError(f"the loss is {float(loss)} at step {state.step + 1}")
            state.params, state.optimiser = training.adamw(
                state.params, gradient, state.optimiser, state.step, settings.steps
            )
            state.losses.append(float(loss))
            state.step_seconds += time.perf_counter() - start
            bar.update()
            if state.step % math.ceil(settings.steps / _EVALUATIONS) == 0:
                bar.write(evaluated(run, state))
                state.wall_seconds = seconds_before + time.perf_counter() - begun
                write_checkpoint(run, state)
        if not state.accuracies or state.accuracies[-1][0] < state.step:
            bar.write(evaluated(run, state))
            state.wall_seconds = seconds_before + time.perf_counter() - begun
            write_checkpoint(run, state)


def evaluated(run: Run, state: State) -> str:
    """Add the held-out accuracy to the state; return a line about the progress."""
    video, labels = run.task.held_out
    held_out = run.device.to_library(video.astype(run.settings.dtype))
    predicted = run.device.to_numpy(
        training.predictions(lambda clips: run.apply(state.params, clips), held_out)
    )
    state.accuracies.append((state.step, float(np.mean(predicted == labels))))
    state.clock.append(state.step_seconds)
    recent = state.losses[-math.ceil(run.settings.steps / _EVALUATIONS) :]
    return (
        f"step {state.step}/{run.settings.steps}  loss {np.mean(recent):.3f}  "
        f"held-out {state.accuracies[-1][1]:.1%} (chance {run.task.chance:.1%})  "
        f"{state.step_seconds / state.step:.3f} s/step"
    )


def title(run: Run) -> str:
    """Return the title of a run."""
    return f"{run.settings.model}, {run.settings.scheme}: {run.task.name}"


def finish(run: Run, state: State) -> None:
    """Write the results of a finished run."""
    converted(state, run.device.to_numpy)
    runs.write_weights(run.out / runs.WEIGHTS, run.settings, state.params)
    chance = run.task.chance
    pictures.learning_curve(
        run.out / "curve.png", title(run), state.losses, state.accuracies, chance
    )
    view = MODELS[run.settings.model].view
    pictures.views(
        run.out / f"{view.name}.png",
        f"{title(run)}\n{view.caption}",
        view.unit,
        examples_of(run, state.params, view),
    )
    accuracy = state.accuracies[-1][1]
    clip = run.task.held_out[0][0].astype(run.settings.dtype)
    figures = {
        "accuracy": accuracy,
        "chance": chance,
        "held_out_clips": len(run.task.held_out[1]),
        "weights": parts.size(state.params),
        "multiply_adds": counted(run.apply, state.params, clip).multiply_adds,
        "losses": state.losses,
        "accuracies": state.accuracies,
    }
    times = {
        "seconds_per_step": state.step_seconds / state.step,
        "wall_seconds": state.wall_seconds,
        "clock": state.clock,
    }
    results = {
        "settings": dataclasses.asdict(run.settings),
        "data": {"task": run.task.name, "video": run.video, "digest": run.task.digest},
        "config": repr(run.config),
        "figures": figures,
        "times": times,
        "versions": versions(),
    }
    with replacing(run.out / RUN) as temporary:
        temporary.write_text(json.dumps(results, indent=2) + "\n")
    print(
        f"held-out accuracy {accuracy:.1%}, chance {chance:.1%}; {times['wall_seconds']:.0f} s, "
        f"{times['seconds_per_step']:.3f} s/step; results in {run.out}"
    )


def examples_of(run: Run, params: Any, view: View) -> list[pictures.Example]:
    """Return two held-out clips of different labels, and the view of the model on them."""
    video, labels = run.task.held_out
    examples = []
    for label in (0, len(run.task.classes) - 1):
        clip = video[np.argmax(labels == label)].astype(run.settings.dtype)
        predicted = int(np.argmax(run.apply(params, clip)))
        classes = run.task.classes
        shares = view.of(params, clip, run.config)
        examples.append(pictures.Example(clip, classes[label], classes[predicted], shares))
    return examples


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result can depend on."""
    names = ("numpy", "autograd", "array-api-compat", "scipy", "scikit-learn")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


if __name__ == "__main__":
    sys.exit(main())
