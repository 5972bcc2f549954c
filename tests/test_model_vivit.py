"""ViViT's four models: sizes and costs as published, init, apply, and what holds of them."""

from dataclasses import replace
from functools import cache

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import value_and_grad

import vtnp
from tests import readings
from tests.compare import assert_close, difference
from vtnp.models import parts
from vtnp.models.vivit import CONFIGS, MODELS, ViViTConfig, apply, init

TINY = {
    "spatio-temporal": CONFIGS["vivit-tiny"],
    "factorised-encoder": CONFIGS["vivit-tiny-fe"],
    "factorised-self-attention": CONFIGS["vivit-tiny-fsa"],
    "factorised-dot-product": CONFIGS["vivit-tiny-fdp"],
}
each_model = pytest.mark.parametrize("config", TINY.values(), ids=TINY)


def videos(config, batch=(3,), seed=1):
    shape = (*batch, config.frames, *config.image, config.channels)
    return np.random.default_rng(seed).standard_normal(shape)


def drawn(config, seed=0):
    """Params none of which is at its initial value, small enough not to saturate."""
    rng = np.random.default_rng(seed)
    params = init(rng, config)
    return parts.mapped(lambda x: x + 0.1 * rng.standard_normal(x.shape), params)


def test_tiny_configs_are_one_of_each_model():
    assert list(TINY) == list(MODELS)
    assert [config.model for config in TINY.values()] == list(MODELS)


# --- As published ---------------------------------------------------------------------------------


@cache
def numbers(config):
    """Count the numbers of a model; layers are alike, so that two of each kind tell the rest."""

    def counted(layers, time_layers):
        few = replace(config, layers=layers, time_layers=time_layers)
        return parts.size(init(np.random.default_rng(0), few, dtype=np.float16))

    if config.model != "factorised-encoder" or config.time_layers == 0:
        none = counted(0, config.time_layers)
        return none + config.layers * (counted(1, config.time_layers) - none)
    least = counted(0, 1)
    in_space, in_time = counted(1, 1) - least, counted(0, 2) - least
    return least + config.layers * in_space + (config.time_layers - 1) * in_time


@pytest.mark.parametrize(
    ("name", "changed", "published"),
    [
        ("vivit-b", {}, 88_954_000),
        ("vivit-b-fe", {}, 115_062_928),
        ("vivit-b-fsa", {}, 117_319_312),
        ("vivit-b-fdp", {}, 88_952_464),
        ("vivit-b-average", {}, 86_696_080),
        ("vivit-l", {}, 307_508_624),
        ("vivit-l-fe", {}, 606_877_072),
        ("vivit-l-fe", {"frames": 32}, 606_827_920),
        ("vivit-l-fe", {"frames": 32, "time_layers": 4}, 354_903_440),
        ("vivit-h", {}, 636_945_040),
    ],
)
def test_published_models_have_their_number_of_parameters(name, changed, published):
    """As the released code makes them; printed are 88.9, 115.1, 117.3, 88.9 and 86.7 M."""
    assert numbers(replace(CONFIGS[name], **changed)) == published


def multiply_adds(config):
    """Add up the costs on the pages, for one clip."""
    (t, s), d, (p_t, p_h, p_w) = config.grid, config.d, config.patch
    d_h = d // config.heads
    sizes = {"t": t, "s": s, "d": d, "heads": config.heads, "d_h": d_h, "d_v": d_h}
    sizes |= {"d_f": config.d_f, "p_t": p_t, "p_h": p_h, "p_w": p_w, "C": config.channels}

    def stated(id, params=None):
        cost = vtnp.formula(id).cost["multiply_adds"]
        return eval(cost, {}, {**sizes, "params": params})

    def reader(layers):
        return {"cls": None, "layers": [None] * layers}

    encoder = {
        "spatio-temporal": lambda: stated("spatio-temporal-encoder", reader(config.layers)),
        "factorised-encoder": lambda: stated(
            "factorised-encoder",
            {"space": reader(config.layers)}
            | ({"time": reader(config.time_layers)} if config.time_layers else {}),
        ),
        "factorised-self-attention": lambda: (
            config.layers * stated("factorised-self-attention-layer")
        ),
        "factorised-dot-product": lambda: config.layers * stated("factorised-dot-product-layer"),
    }
    return stated("tubelet-embedding") + encoder[config.model]() + d * config.classes


@pytest.mark.parametrize(
    ("name", "image", "ours", "printed"),
    [
        ("vivit-b", 224, "451.52", 455.2),
        ("vivit-b-fe", 224, "283.34", 284.4),
        ("vivit-b-fsa", 224, "371.09", 372.3),
        ("vivit-b-fdp", 224, "276.18", 277.1),
        ("vivit-b-average", 224, "282.86", 283.9),
        ("vivit-l", 224, "1435.97", 1446),
        ("vivit-l", 288, "2895.39", 2919),
        ("vivit-l", 320, "3957.00", 3992),
        ("vivit-l-fe", 224, None, 3980.4),
        ("vivit-h", 224, None, 47770 / 12),
    ],
)
def test_costs_are_within_a_hundredth_of_what_the_paper_prints(name, image, ours, printed):
    """In 10^9. The paper counts elementwise operations as well."""
    cost = multiply_adds(replace(CONFIGS[name], image=(image, image))) / 1e9
    assert ours is None or f"{cost:.2f}" == ours
    assert 0.99 * printed < cost < printed


def test_costs_and_sizes_stand_on_a_page():
    page = vtnp.formula("spatio-temporal-encoder").page
    for name in ("vivit-b", "vivit-b-fe", "vivit-b-fsa", "vivit-b-fdp", "vivit-b-average"):
        count = f"{numbers(CONFIGS[name]):,}".replace(",", " ")
        assert f"| {multiply_adds(CONFIGS[name]) / 1e9:.2f} |" in page
        assert f"| {count} |" in page


def test_four_layers_in_time_are_too_cheap_for_the_printed_large_model():
    """24 are: the difference is larger than what the paper's way of counting adds."""
    large = CONFIGS["vivit-l-fe"]
    added = 3980.4 - multiply_adds(large) / 1e9
    four = multiply_adds(replace(large, time_layers=4)) / 1e9
    assert multiply_adds(large) / 1e9 - four > 15.0
    assert four + added < 3966.0


# --- init -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_model
def test_init_is_of_the_dtype_and_of_the_seed(config, dtype):
    one, same = (init(np.random.default_rng(7), config, dtype=dtype) for _ in range(2))
    other = init(np.random.default_rng(8), config, dtype=dtype)
    again = dict(parts.leaves(same))
    for path, x in parts.leaves(one):
        assert x.dtype == dtype, path
        assert np.array_equal(x, again[path]), path
    assert not np.array_equal(one["embedding"]["E"], other["embedding"]["E"])


def loss(params, video, config):
    """Return the cross entropy of videos that are each of a class of its own."""
    logits = apply(params, video, config)
    return anp.mean(anp.log(anp.sum(anp.exp(logits), axis=-1)) - anp.diag(logits))


@each_model
def test_every_param_has_a_gradient_and_a_step_along_it_helps(config):
    params, video = init(np.random.default_rng(0), config), videos(config, (config.classes,))
    before, gradient = value_and_grad(loss)(params, video, config)
    for path, g in parts.leaves(gradient):
        # A bias on the keys cancels in every softmax: its gradient is 0 but for rounding.
        assert np.any(np.abs(g) > 1e-12) or path.endswith("b_k"), path
    step = iter([0.02 * g for _, g in parts.leaves(gradient)])
    assert loss(parts.mapped(lambda x: x - next(step), params), video, config) < before
    assert abs(before - np.log(config.classes)) < 0.2, "a new model should not be sure of anything"


# --- apply ----------------------------------------------------------------------------------------


@each_model
def test_videos_of_a_batch_do_not_meet(config):
    params, video = drawn(config), videos(config, batch=(2, 3))
    logits = apply(params, video, config)
    assert logits.shape == (2, 3, config.classes)
    assert_close(logits[1, 2], apply(params, video[1, 2], config))


@each_model
def test_float32_stays_and_is_close(config):
    params, video = drawn(config), videos(config)
    single = parts.mapped(lambda x: x.astype(np.float32), params)
    logits = apply(single, video.astype(np.float32), config)
    assert logits.dtype == np.float32
    assert_close(logits, apply(params, video, config), within=1e-4)


# The formulas are read on every library one by one; JAX and Dask would take long over a model.
@pytest.mark.parametrize("name", [name for name in readings.NAMES if name in {"strict", "torch"}])
@each_model
def test_other_readings_agree(name, config):
    reading, config = readings.reading(name), replace(config, layers=1, sampled=6)
    params, video = drawn(config), videos(config, ())
    there = apply(parts.mapped(reading.asarray, params), reading.asarray(video), config)
    assert_close(reading.to_numpy(there), apply(params, video, config))


@each_model
def test_sampled_frames_are_all_that_is_seen(config):
    """A model of four of eight frames is one of a shorter video, and its gradient says so."""
    sampled = replace(config, sampled=4)
    params, video = drawn(sampled), videos(sampled)
    chosen = vtnp.uniform_frame_sampling(8, 4)
    shorter = replace(config, frames=4)
    assert_close(apply(params, video, sampled), apply(params, video[:, chosen], shorter))
    _, of_video = value_and_grad(lambda x: anp.sum(apply(params, x, sampled) ** 2))(video)
    assert np.flatnonzero(np.any(of_video != 0.0, axis=(0, 2, 3, 4))).tolist() == chosen.tolist()


def image_config(config):
    """A model of one frame of tokens: ViT."""
    return replace(config, model="spatio-temporal", frames=config.patch[0])


def test_averaged_frames_are_the_mean_of_an_image_models_logits():
    config = replace(TINY["factorised-encoder"], time_layers=0)
    params, video = drawn(config), videos(config)
    frames = np.split(video, config.grid[0], axis=1)
    image = {**params, "encoder": params["encoder"]["space"]}
    each = [apply(image, frame, image_config(config)) for frame in frames]
    assert_close(apply(params, video, config), sum(each) / len(each))


def test_self_attention_with_silent_time_is_the_mean_of_an_image_models_logits():
    """And its order does not matter, exactly: what the paper says of its start."""
    config = TINY["factorised-self-attention"]
    params, video = drawn(config), videos(config)
    layers = [
        {**layer, "time": {**layer["time"], "attention": quiet(layer["time"]["attention"])}}
        for layer in params["encoder"]["layers"]
    ]
    silent = {**params, "encoder": {**params["encoder"], "layers": layers}}
    logits = apply(silent, video, config)
    assert np.array_equal(apply(silent, video, replace(config, order="space-time")), logits)

    t, s = config.grid
    positions = params["encoder"]["positions"].reshape(t, s, config.d)
    images = replace(image_config(config), class_token=False)
    each = []
    for frame, rows in zip(np.split(video, t, axis=1), positions, strict=True):
        alone = [
            {**layer["space"], "norm_2": layer["norm_2"], "feed_forward": layer["feed_forward"]}
            for layer in layers
        ]
        encoder = {"positions": rows, "layers": alone, "norm": params["encoder"]["norm"]}
        each.append(apply({**params, "encoder": encoder}, frame, images))
    assert_close(logits, sum(each) / len(each))


def quiet(attention):
    return {**attention, "W_c": 0.0 * attention["W_c"], "b_c": 0.0 * attention["b_c"]}


def test_model_4_and_model_1_share_their_params():
    """A checkpoint cannot tell them apart; the logits can."""
    config = TINY["factorised-dot-product"]
    params, video = drawn(config), videos(config)
    joint = replace(config, model="spatio-temporal", class_token=False)
    shapes = [{path: x.shape for path, x in parts.leaves(drawn(c))} for c in (config, joint)]
    assert shapes[0] == shapes[1]
    assert difference(apply(params, video, joint), apply(params, video, config)) > 1e-2


EFFECTS = {
    "2.1": (
        "factorised-self-attention",
        {"order": "space-time"},
        "factorised-self-attention-layer",
    ),
    "0.72": ("factorised-dot-product", {"first": "space"}, "factorised-dot-product-layer"),
    "0.00042": ("spatio-temporal", {"activation": "gelu"}, "sequence-encoder"),
}


@pytest.mark.parametrize(("effect", "of"), EFFECTS.items())
def test_choices_differ_by_what_the_page_says(effect, of):
    """Root mean square change of the logits over their spread."""
    model, options, id = of
    config = replace(TINY[model], image=(32, 32), patch=(2, 8, 8), d=48, d_f=192, layers=4)
    params, video = drawn(config), videos(config, batch=(8,))
    before = apply(params, video, config)
    after = apply(params, video, replace(config, **options))
    spread = np.sqrt(np.mean((before - before.mean(axis=0)) ** 2))
    change = np.sqrt(np.mean((after - before) ** 2)) / spread
    assert f"{change:.2g}" == effect
    assert f" {effect} " in vtnp.formula(id).page


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("changed", [{"frames": 10}, {"image": (16, 17)}, {"channels": 3}])
@each_model
def test_videos_of_other_sizes_are_refused(config, changed):
    """Tubelets drop what is left over: without a check 17 columns would pass for 16."""
    params = init(np.random.default_rng(0), config)
    shape = {"frames": config.frames, "image": config.image, "channels": config.channels} | changed
    video = np.zeros((shape["frames"], *shape["image"], shape["channels"]))
    with pytest.raises(vtnp.ShapeError, match="vivit: argument video: expected"):
        apply(params, video, config)


@each_model
def test_params_of_a_longer_video_are_refused(config):
    longer = init(np.random.default_rng(0), replace(config, frames=12))
    with pytest.raises(vtnp.FormulaError, match=r"positions|learned-positions"):
        apply(longer, videos(config), config)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "joint"}, "model 'joint'"),
        ({"image": (16, 15)}, r"video \(8, 16, 15\) is no multiple of the patch \(2, 4, 4\)"),
        ({"sampled": 5}, r"video \(5, 16, 16\) is no multiple"),
        ({"heads": 5}, "width 24 is no multiple of 5 heads"),
    ],
)
def test_impossible_configs_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        init(np.random.default_rng(0), replace(TINY["spatio-temporal"], **wrong))


def test_odd_heads_cannot_share_out_time_and_space():
    config = replace(TINY["factorised-dot-product"], heads=3)
    with pytest.raises(vtnp.FormulaError, match="an even number of heads, got 3"):
        apply(init(np.random.default_rng(0), config), videos(config), config)


def test_the_default_config_is_the_papers_base_model():
    assert ViViTConfig() == CONFIGS["vivit-b"]
