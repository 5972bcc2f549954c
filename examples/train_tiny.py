"""Train a tiny video transformer, made of vtnp's formulas alone, on a real task in a minute.

    python examples/train_tiny.py                       handwritten digits: where do they fly to?
    python examples/train_tiny.py --scheme axial        the same with axial attention
    python examples/train_tiny.py --model motionformer  the same with another system
    python examples/train_tiny.py --compare             all systems, on one budget
    python examples/train_tiny.py --video holiday.mp4   clips of a video: at which pace do they run?
    python examples/train_tiny.py --resume runs/...     go on where a run was stopped

Into --out (runs/MODEL-SCHEME unless given) go the learning curve, a picture of what the model looks
at, run.json with all figures, the weights, and after every evaluation a checkpoint to resume from.
A comparison (in runs/compare unless --out says otherwise) makes such a folder for each model, and
compare.png and compare.json of them all; given again, it goes on where it was stopped.
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
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from tiny import comparison, pictures, runs, training
from tiny.attention import View
from tiny.clips import paces_of
from tiny.digits import moving_digits
from tiny.models import MODELS
from tiny.runs import Settings, State
from tiny.task import Task

from vtnp._array import trees
from vtnp.checkpoints import FileError, replacing
from vtnp.cost import counted
from vtnp.models import parts
from vtnp.video import VideoError

RUN = "run.json"
_EVALUATIONS = 8
_STEPS = 240
_NEEDED = ("matplotlib", "safetensors", "sklearn", "tqdm")
_DEFAULTS = {"model": "timesformer", "batch": 32, "seed": 0, "dtype": "float32"}


class BadInputError(Exception):
    """What the user asked for cannot be done; the message is one line."""


class Device(NamedTuple):
    """Ways to bring an array to where it is computed with, and back."""

    to: Callable[[Any], Any]
    back: Callable[[Any], Any]


class Run(NamedTuple):
    """What a run works with."""

    settings: Settings
    task: Task
    video: str | None
    out: Path
    device: Device
    apply: Callable[[Any, Any], Any]
    config: Any


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInputError(message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    again = "the same command again"
    try:
        options = parsed(arguments)
        look_for_what_is_needed()
        if options.compare is not None:
            compare(options)
        else:
            run, state = prepared(options)
            again = f"--resume {run.out}"
            train(run, state)
            finish(run, state)
    except (BadInputError, FileError, VideoError) as error:
        print(f"train_tiny.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; to go on: {again}", file=sys.stderr)
        return 130
    return 0


def look_for_what_is_needed() -> None:
    """Complain of what is not installed."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise BadInputError(f"{', '.join(missing)} not found: pip install 'vtnp[examples]'")


def compare(options: argparse.Namespace) -> None:
    """Train several models on one budget, one after the other, and draw them together.

    What is finished already, or begun, in the comparison's folder is not trained again.
    """
    for name in ("model", "scheme", "resume"):
        if getattr(options, name) is not None:
            raise BadInputError(f"--{name} does not go with --compare, which takes MODEL[:SCHEME]")
    out = options.out or Path("runs", "compare")
    told = []
    for settings in budgeted(options):
        here = out / f"{settings.model}-{settings.scheme}"
        begun = here if (here / runs.CHECKPOINT).exists() else None
        known = vars(options) | dataclasses.asdict(settings) | {"out": here, "resume": begun}
        run, state = prepared(argparse.Namespace(**known))
        if state.step < settings.steps or not (here / RUN).exists():
            train(run, state)
            finish(run, state)
        told.append(json.loads((here / RUN).read_text()))
    comparison.write(out, told, versions())
    print(f"see {out / comparison.PICTURE}")


def budgeted(options: argparse.Namespace) -> list[Settings]:
    """Settle what each model of a comparison is trained with: the same for all."""
    settings = []
    for name in options.compare or MODELS:
        model, colon, scheme = name.partition(":")
        known = {"steps": _STEPS} | {k: v for k, v in vars(options).items() if v is not None}
        known |= {"model": model, "scheme": scheme if colon else None}
        settings.append(settled(argparse.Namespace(**known), None))
    return list(dict.fromkeys(settings))


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line. What is not given is None."""
    parser = _Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--model", help=f"{', '.join(MODELS)} (default: timesformer)")
    add("--scheme", help="of the model; a wrong one names those there are (default: the first)")
    add("--compare", nargs="*", metavar="MODEL[:SCHEME]", help="train these, or one of each model")
    add("--steps", type=_count, help=f"steps of training in all (default: mostly {_STEPS})")
    add("--batch", type=_count, help="clips in each step (default: 32)")
    add("--seed", type=_natural, help="of weights and clips (default: 0)")
    add("--dtype", choices=("float32", "float64"), help="default: float32")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="cuda needs CuPy")
    add("--video", metavar="FILE", help="train on clips of this video")
    add("--out", type=Path, metavar="DIR", help="default: runs/MODEL-SCHEME")
    add("--resume", type=Path, metavar="DIR_OR_FILE", help="a run to go on with")
    return parser.parse_args(arguments)


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


_natural.__name__ = "whole number >= 0"  # argparse names a type by this when a text is not one
_count.__name__ = "whole number >= 1"


def prepared(options: argparse.Namespace) -> tuple[Run, State]:
    """Make all that a run needs out of its options, and write its first checkpoint."""
    device = chosen_device(options.device)
    checkpoint = runs.read(options.resume) if options.resume else None
    settings = settled(options, checkpoint)
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
    usual = Path("runs", f"{settings.model}-{settings.scheme}")
    out = options.out or (checkpoint.path.parent if checkpoint else usual)
    run = Run(
        settings, task, video, out, device,
        lambda params, clips: model.apply(params, clips, config), config,
    )  # fmt: skip
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"cannot make the folder {out}: {error.strerror}") from None
    # At once, so that a folder that cannot be written to is found before the training.
    write_checkpoint(run, state)
    moved(state, device.to)
    return run, state


def settled(options: argparse.Namespace, checkpoint: runs.Checkpoint | None) -> Settings:
    """Settle every setting: as given, as in the checkpoint, or the default."""
    given = {
        setting.name: value
        for setting in dataclasses.fields(Settings)
        if (value := getattr(options, setting.name, None)) is not None
    }
    if checkpoint:
        held = dataclasses.asdict(checkpoint.settings)
        for name, value in given.items():
            if held[name] != value:
                raise BadInputError(
                    f"{checkpoint.path} is of another configuration: "
                    f"{name} {held[name]}, not {value}"
                )
        given = held
    known = _DEFAULTS | given
    if known["model"] not in MODELS:
        raise BadInputError(f"unknown model {known['model']!r}: one of {', '.join(MODELS)}")
    model = MODELS[known["model"]]
    scheme = known.setdefault("scheme", model.schemes[0])
    if scheme not in model.schemes:
        schemes = ", ".join(model.schemes)
        raise BadInputError(f"{known['model']} has no scheme {scheme!r}: one of {schemes}")
    return Settings(**({"steps": model.steps.get(scheme, _STEPS)} | known))


def chosen_device(name: str) -> Device:
    """Return the way to a device and back."""
    if name == "cpu":
        return Device(np.asarray, np.asarray)
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        raise BadInputError("--device cuda needs CuPy: pip install 'vtnp[gpu]'") from None
    try:
        cupy.cuda.runtime.getDevice()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BadInputError(f"--device cuda finds no GPU: {error}") from None
    return Device(cupy.asarray, cupy.asnumpy)


def moved(state: State, to: Callable[[Any], Any]) -> State:
    """Bring a state's arrays somewhere."""
    state.params = trees.tree_map(to, state.params)
    state.optimiser = training.Optimiser(*(trees.tree_map(to, table) for table in state.optimiser))
    return state


def write_checkpoint(run: Run, state: State) -> None:
    """Put the state where --resume finds it."""
    here = moved(dataclasses.replace(state), run.device.back)
    runs.write(run.out / runs.CHECKPOINT, run.settings, run.video, run.task.digest, here)


def train(run: Run, state: State) -> None:
    """Make the steps that are left; evaluate and write a checkpoint from time to time."""
    from tqdm import tqdm

    settings, task = run.settings, run.task
    print(f"{title(run)}: {parts.size(state.params)} weights, {settings.steps} steps", flush=True)
    step_of = training.loss_and_gradient(run.apply)
    one_hot = np.eye(len(task.classes), dtype=settings.dtype)
    begun, before = time.perf_counter(), state.wall_seconds
    # disable=None: no bar where standard error is no terminal.
    with tqdm(total=settings.steps, initial=state.step, unit="step", disable=None) as bar:
        while state.step < settings.steps:
            start = time.perf_counter()
            clips, labels = task.draw(state.rng, settings.batch)
            batch = [run.device.to(x) for x in (clips.astype(settings.dtype), one_hot[labels])]
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
                state.wall_seconds = before + time.perf_counter() - begun
                write_checkpoint(run, state)
        if not state.accuracies or state.accuracies[-1][0] < state.step:
            bar.write(evaluated(run, state))
            state.wall_seconds = before + time.perf_counter() - begun
            write_checkpoint(run, state)


def evaluated(run: Run, state: State) -> str:
    """Take the held-out accuracy into the state; return a line that tells how it stands."""
    video, labels = run.task.held_out
    held_out = run.device.to(video.astype(run.settings.dtype))
    found = run.device.back(
        training.predictions(lambda clips: run.apply(state.params, clips), held_out)
    )
    state.accuracies.append((state.step, float(np.mean(found == labels))))
    state.clock.append(state.step_seconds)
    recent = state.losses[-math.ceil(run.settings.steps / _EVALUATIONS) :]
    return (
        f"step {state.step}/{run.settings.steps}  loss {np.mean(recent):.3f}  "
        f"held-out {state.accuracies[-1][1]:.1%} (chance {run.task.chance:.1%})  "
        f"{state.step_seconds / state.step:.3f} s/step"
    )


def title(run: Run) -> str:
    """Name a run for a person."""
    return f"{run.settings.model}, {run.settings.scheme}: {run.task.name}"


def finish(run: Run, state: State) -> None:
    """Write what a finished run leaves behind."""
    moved(state, run.device.back)
    runs.write_weights(run.out / runs.WEIGHTS, run.settings, state.params)
    chance = run.task.chance
    pictures.learning_curve(
        run.out / "curve.png", title(run), state.losses, state.accuracies, chance
    )
    view = MODELS[run.settings.model].shown
    pictures.views(
        run.out / f"{view.name}.png",
        f"{title(run)}\n{view.says}",
        view.unit,
        looked_at(run, state.params, view),
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
    told = {
        "settings": dataclasses.asdict(run.settings),
        "data": {"task": run.task.name, "video": run.video, "digest": run.task.digest},
        "config": repr(run.config),
        "figures": figures,
        "times": times,
        "versions": versions(),
    }
    with replacing(run.out / RUN) as temporary:
        temporary.write_text(json.dumps(told, indent=2) + "\n")
    print(
        f"held-out accuracy {accuracy:.1%}, chance {chance:.1%}; {times['wall_seconds']:.0f} s, "
        f"{times['seconds_per_step']:.3f} s/step; see {run.out}"
    )


def looked_at(run: Run, params: Any, view: View) -> list[pictures.Example]:
    """Return two held-out clips of different labels, and what the model looks at in them."""
    video, labels = run.task.held_out
    examples = []
    for label in (0, len(run.task.classes) - 1):
        clip = video[np.argmax(labels == label)].astype(run.settings.dtype)
        predicted = int(np.argmax(run.apply(params, clip)))
        words = run.task.classes
        seen = view.of(params, clip, run.config)
        examples.append(pictures.Example(clip, words[label], words[predicted], seen))
    return examples


def versions() -> dict[str, str]:
    """Return the versions of what a result can depend on."""
    names = ("numpy", "autograd", "array-api-compat", "scipy", "scikit-learn")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


if __name__ == "__main__":
    sys.exit(main())
