"""What holds for every model: its params, its logits, and how it runs on other libraries."""

import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

import vtnp
from tests.support import readings
from tests.support.compare import assert_close
from tests.support.whole_models import SMALL, drawn, new, videos
from vtnp import models
from vtnp.models import abstract_params, tree_leaves, tree_map

each_model = pytest.mark.parametrize(("model", "config"), SMALL.values(), ids=SMALL)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@each_dtype
@each_model
def test_init_is_of_the_dtype_and_of_the_seed(model, config, dtype):
    one, same = (model.init(np.random.default_rng(7), config, dtype=dtype) for _ in range(2))
    other = model.init(np.random.default_rng(8), config, dtype=dtype)
    again = dict(tree_leaves(same))
    for path, x in tree_leaves(one):
        assert x.dtype == dtype, path
        assert np.array_equal(x, again[path]), path
    first = next(path for path, _ in tree_leaves(one) if path.startswith("embedding"))
    assert not np.array_equal(again[first], dict(tree_leaves(other))[first])


@each_dtype
@each_model
def test_logits(model, config, dtype):
    """Their shape and dtype; videos of a batch are independent; the error of single precision."""
    params, video = drawn(model, config), videos(config, batch=(2, 2))
    exact = model.apply(params, video, config)
    params = tree_map(lambda x: x.astype(dtype), params)
    video = video.astype(dtype)
    logits = model.apply(params, video, config)
    assert logits.shape == (2, 2, config.classes)
    assert logits.dtype == dtype
    assert np.all(np.isfinite(logits))
    single = dtype == np.float32
    alone = model.apply(params, video[1, 0], config)
    assert_close(alone, logits[1, 0], within=1e-5 if single else 1e-12)
    assert_close(logits, exact, within=1e-4 if single else 0.0)


# Each formula runs on every library; with JAX and Dask a whole model would take long.
@pytest.mark.parametrize("name", [name for name in readings.NAMES if name in {"strict", "torch"}])
@each_model
def test_other_libraries_agree(model, config, name):
    library = readings.reading(name)
    params, video = drawn(model, config), videos(config, (2,))
    logits = model.apply(tree_map(library.asarray, params), library.asarray(video), config)
    assert_close(library.to_numpy(logits), model.apply(params, video, config))


# --- Params ---------------------------------------------------------------------------------------


@each_dtype
@each_model
def test_abstract_params_are_those_of_init_without_numbers(model, config, dtype):
    params, abstract = new(model, config, dtype=dtype), abstract_params(config, dtype=dtype)
    described, expected = (
        [(path, x.shape, x.dtype) for path, x in tree_leaves(tree)] for tree in (abstract, params)
    )
    assert described == expected
    assert not any(hasattr(x, "__array__") for _, x in tree_leaves(abstract))


@each_model
def test_a_missing_param_is_named(model, config):
    params, video = new(model, config), videos(config)
    name = model.__name__.rpartition(".")[2]
    for key in params.keys() - {"e_time"}:  # TimeSformer's scheme "space" has none
        fewer = {each: x for each, x in params.items() if each != key}
        expected = f"{name}: argument params: expected a key {key!r}, got {list(fewer)}"
        with pytest.raises(vtnp.FormulaError, match=f"^{re.escape(expected)}$"):
            model.apply(fewer, video, config)


def test_a_missing_param_of_an_encoder_is_named():
    small = SMALL["vivit-factorised-dot-product"]
    params = new(*small)
    del params["encoder"]["norm"]
    with pytest.raises(vtnp.FormulaError, match="vivit: argument params: expected a key 'norm'"):
        small.model.apply(params, videos(small.config), small.config)


def test_models_are_found_by_name_and_by_configuration():
    chapters = [name for name in vars(vtnp)["_CHAPTERS"] if name in models.MODELS]
    assert list(models.MODELS) == chapters
    for name, module in models.MODELS.items():
        assert module is getattr(models, name)
        assert all(models.model_of(config) is module for config in module.CONFIGS.values())


def test_what_is_no_configuration_is_refused():
    @dataclass(frozen=True)
    class OtherConfig:
        d: int = 3

    for act in (models.model_of, abstract_params):
        with pytest.raises(TypeError, match=r"expected one of TimeSformerConfig, .*, got Other"):
            act(OtherConfig())


# --- Videos of other sizes ------------------------------------------------------------------------


@each_model
def test_height_and_width_are_not_exchanged(model, config):
    """The number of patches is the same, and their positions are not."""
    height, width = config.image
    wide = replace(config, image=(height, 2 * width))
    params, video = drawn(model, wide), videos(wide, (2,))
    assert model.apply(params, video, wide).shape == (2, config.classes)
    name = model.__name__.rpartition(".")[2]
    with pytest.raises(vtnp.ShapeError, match=f"^{name}: argument video: expected \\*b "):
        model.apply(params, np.swapaxes(video, -3, -2), wide)


@each_model
def test_a_video_with_its_channels_first_is_recognised(model, config):
    params, video = drawn(model, config), videos(config, (2,))
    for axis in (-4, -3):
        with pytest.raises(vtnp.ShapeError, match=r"its channels have to come last$"):
            model.apply(params, np.moveaxis(video, -1, axis), config)
