"""Motionformer as a whole: sizes and costs as published, init, apply, positions of other grids."""

from dataclasses import replace
from functools import cache

import autograd.numpy as anp
import numpy as np
import pytest

import vtnp
from tests.compare import assert_close, difference
from tests.test_models import trained
from vtnp.models import motionformer as model
from vtnp.models import parts

TINY = model.CONFIGS["motionformer-tiny"]
VARIANTS = {
    "released": TINY,
    "paper": replace(TINY, value_projection=True),
    "orthoformer": replace(TINY, prototypes={"r": 6, "start": 0}),
    "orthoformer, paper": replace(
        TINY, value_projection=True, prototypes={"r": 6, "start": 1, "candidates": "both"}
    ),
}
each_variant = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)


def videos(config, batch=(3,), seed=1):
    shape = (*batch, config.frames, *config.image, config.channels)
    return np.random.default_rng(seed).standard_normal(shape)


def drawn(config, seed=0):
    """Params none of which is at its initial value, small enough not to saturate."""
    rng = np.random.default_rng(seed)
    params = model.init(rng, config)
    return parts.mapped(lambda x: x + 0.1 * rng.standard_normal(x.shape), params)


# --- As published ---------------------------------------------------------------------------------


@cache
def numbers(config):
    """Count the numbers of a model; layers are alike, so that one of them is enough to draw."""
    none, one = (
        parts.size(
            model.init(np.random.default_rng(0), replace(config, layers=n), dtype=np.float16)
        )
        for n in (0, 1)
    )
    return none + config.layers * (one - none)


PATCH_OF_IMAGES = 768 * 3 * 16 * 16 + 768
VALUE_PROJECTIONS = 12 * (768**2 + 768)


@pytest.mark.parametrize(
    ("name", "published"),
    [("motionformer", "109.14"), ("motionformer-hr", "109.14"), ("motionformer-l", "109.15")],
)
def test_published_models_have_their_number_of_parameters(name, published):
    """Two parts of them are dead: the embedding of images, and the second stage's values."""
    living = numbers(model.CONFIGS[name])
    dead = PATCH_OF_IMAGES + VALUE_PROJECTIONS
    assert f"{(living + dead) / 1e6:.2f}" == published
    assert numbers(replace(model.CONFIGS[name], value_projection=True)) == (
        living + VALUE_PROJECTIONS
    )


def multiply_adds(config):
    """Add up the costs on the pages, for one clip."""
    (h, w), t, d = config.grid, config.frames // config.tubelet, config.d
    sizes = {"t": t, "s": h * w, "d": d, "heads": config.heads, "d_f": config.d_f}
    sizes |= dict.fromkeys(("d_h", "d_k", "d_v"), d // config.heads)
    options = {"value_projection": config.value_projection, "prototypes": config.prototypes}
    cost = vtnp.formula("trajectory-layer").cost["multiply_adds"]
    layer = eval(cost, {}, {**sizes, **options, "g": 1, "r": (config.prototypes or {}).get("r", 0)})
    flat = config.tubelet * config.patch**2 * config.channels
    ends = t * h * w * flat * d + d * d + d * config.classes
    return config.layers * layer + ends


@pytest.mark.parametrize(
    ("name", "published"),
    [("motionformer", 369.5), ("motionformer-hr", 958.8), ("motionformer-l", 1185.1)],
)
def test_costs_are_those_of_the_paper(name, published):
    """Its GFLOPs are multiply-adds of one clip, dead values included; 0.04 % more, as norms are."""
    config = replace(model.CONFIGS[name], value_projection=True)
    ours = multiply_adds(config) / 1e9
    assert ours < published < 1.0005 * ours


def test_what_dead_values_and_prototypes_cost():
    assert f"{multiply_adds(model.CONFIGS['motionformer']) / 1e9:.1f}" == "280.6"
    options = {"r": 128, "start": 0, "candidates": "queries"}
    config = replace(model.CONFIGS["motionformer"], value_projection=True, prototypes=options)
    selection = 12 * 12 * 128 * 1568 * 64
    assert f"{(multiply_adds(config) - selection) / 1e9:.1f}" == "344.4"


# --- init and apply -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_variant
def test_init_is_of_the_dtype_and_of_the_seed(config, dtype):
    one, same = (model.init(np.random.default_rng(7), config, dtype=dtype) for _ in range(2))
    again = dict(parts.leaves(same))
    for path, x in parts.leaves(one):
        assert x.dtype == dtype, path
        assert np.array_equal(x, again[path]), path
    other = model.init(np.random.default_rng(8), config, dtype=dtype)
    assert not np.array_equal(one["embedding"]["E"], other["embedding"]["E"])
    assert not np.array_equal(
        one["layers"][0]["attention"]["W_q"], one["layers"][0]["trajectory"]["W_q"]
    )


@each_variant
def test_a_new_model_learns(config):
    """Which way a bar moves: forty steps of Adam from init bring the loss down."""
    config = replace(config, layers=1, classes=2)
    clip = np.zeros((2, config.frames, *config.image, 1))
    for i in range(config.frames):
        at = slice(2 * i, 2 * i + 4)
        clip[0, i, :, at] = clip[1, i, at] = 1.0

    def loss(params):
        logits = model.apply(params, clip, config)
        return anp.mean(anp.log(anp.sum(anp.exp(logits), axis=-1)) - anp.diag(logits))

    losses = trained(loss, model.init(np.random.default_rng(0), config), steps=40)
    assert abs(losses[0] - np.log(2)) < 0.1, "a new model should not be sure of anything"
    assert losses[-1] < 0.1 * losses[0]


@each_variant
def test_float32_stays_and_is_close(config):
    params, video = drawn(config), videos(config)
    single = parts.mapped(lambda x: x.astype(np.float32), params)
    logits = model.apply(single, video.astype(np.float32), config)
    assert logits.dtype == np.float32
    assert_close(logits, model.apply(params, video, config), within=1e-4)


@each_variant
def test_clips_of_a_batch_do_not_meet(config):
    params, video = drawn(config), videos(config, batch=(2, 2))
    logits = model.apply(params, video, config)
    assert logits.shape == (2, 2, config.classes)
    assert_close(logits[1, 0], model.apply(params, video[1, 0], config))


def test_each_choice_matters():
    params, video = drawn(VARIANTS["paper"]), videos(TINY)
    logits = [model.apply(params, video, config) for config in VARIANTS.values()]
    for i, one in enumerate(logits):
        assert all(difference(one, other) > 1e-3 for other in logits[:i])


def test_without_times_positions_tubelets_have_no_order():
    params, video = drawn(TINY), videos(TINY)
    order = [6, 7, 0, 1, 4, 5, 2, 3]
    logits = model.apply(params, video, TINY)
    assert difference(model.apply(params, video[:, order], TINY), logits) > 1e-4
    params["e_time"] = 0 * params["e_time"]
    assert_close(model.apply(params, video[:, order], TINY), model.apply(params, video, TINY))


@pytest.mark.parametrize(
    ("effect", "changed"),
    [("1.4", {"value_projection": True}), ("0.26", {"prototypes": {"r": 16, "start": 0}})],
)
def test_choices_change_as_much_as_the_page_says(effect, changed):
    """Root mean square change of the logits over their spread between clips."""
    config = replace(TINY, image=(32, 32), patch=8, d=48, d_f=192, layers=4)
    params = drawn(replace(config, value_projection=True))
    video = videos(config, batch=(8,))
    before = model.apply(params, video, config)
    after = model.apply(params, video, replace(config, **changed))
    spread = np.sqrt(np.mean((before - before.mean(axis=0)) ** 2))
    assert f"{np.sqrt(np.mean((after - before) ** 2)) / spread:.2g}" == effect
    assert f"| {effect} |" in vtnp.formula("trajectory-self-attention").page


# --- Positions of another grid --------------------------------------------------------------------


def test_a_larger_grid_reads_the_table_between_its_places():
    larger = replace(TINY, image=(24, 28), table=TINY.grid)
    params, video = drawn(larger), videos(larger)
    assert params["e_space"].shape == (16, TINY.d)
    down, across = model.bicubic(4, 6), model.bicubic(4, 7)
    table = np.einsum("ik,jl,kld->ijd", down, across, params["e_space"].reshape(4, 4, -1))
    own = replace(larger, table=None)
    expected = model.apply({**params, "e_space": table.reshape(42, -1)}, video, own)
    assert_close(model.apply(params, video, larger), expected)


@pytest.mark.parametrize(("n", "m"), [(14, 21), (4, 7), (5, 2), (3, 3)])
def test_bicubic_is_torchs(n, m):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).standard_normal((n, n))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(x)[None, None], size=(m, m), mode="bicubic", align_corners=False
    )
    matrix = model.bicubic(n, m)
    assert_close(matrix @ x @ matrix.T, theirs[0, 0].numpy())
    assert_close(matrix.sum(axis=1), np.ones(m))


def test_bicubic_at_its_own_places_is_the_identity():
    assert_close(model.bicubic(5, 5), np.eye(5), within=0)


# --- What is refused ------------------------------------------------------------------------------


def test_wrong_sizes_are_refused():
    params = model.init(np.random.default_rng(0), TINY)
    with pytest.raises(vtnp.ShapeError, match=r"separable-positions .* e_time"):
        model.apply(params, videos(replace(TINY, frames=6)), TINY)
    with pytest.raises(vtnp.ShapeError, match=r"separable-positions .* e_space"):
        model.apply(params, videos(replace(TINY, image=(16, 20))), TINY)
    with pytest.raises(vtnp.FormulaError, match="patch-tokens"):
        model.apply(params, videos(TINY)[:, :7], TINY)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"image": (16, 15)}, r"image \(16, 15\) is no multiple of the patch 4"),
        ({"frames": 7}, "7 frames are no multiple of the tubelet 2"),
        ({"heads": 5}, "width 24 is no multiple of 5 heads"),
    ],
)
def test_impossible_configs_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        model.init(np.random.default_rng(0), replace(TINY, **wrong))
