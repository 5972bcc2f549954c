"""What holds for every model: how it is drawn, its logits, and its readings on other libraries."""

import numpy as np
import pytest

from tests.support import readings
from tests.support.compare import assert_close
from tests.support.whole_models import SMALL, drawn, videos
from vtnp._array import trees

each_model = pytest.mark.parametrize(("model", "config"), SMALL.values(), ids=SMALL)
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@each_dtype
@each_model
def test_init_is_of_the_dtype_and_of_the_seed(model, config, dtype):
    one, same = (model.init(np.random.default_rng(7), config, dtype=dtype) for _ in range(2))
    other = model.init(np.random.default_rng(8), config, dtype=dtype)
    again = dict(trees.tree_leaves(same))
    for path, x in trees.tree_leaves(one):
        assert x.dtype == dtype, path
        assert np.array_equal(x, again[path]), path
    first = next(path for path, _ in trees.tree_leaves(one) if path.startswith("embedding"))
    assert not np.array_equal(again[first], dict(trees.tree_leaves(other))[first])


@each_dtype
@each_model
def test_logits(model, config, dtype):
    """Their shape and dtype; videos do not meet; what single precision costs."""
    params, video = drawn(model, config), videos(config, batch=(2, 2))
    exact = model.apply(params, video, config)
    params = trees.tree_map(lambda x: x.astype(dtype), params)
    video = video.astype(dtype)
    logits = model.apply(params, video, config)
    assert logits.shape == (2, 2, config.classes)
    assert logits.dtype == dtype
    assert np.all(np.isfinite(logits))
    single = dtype == np.float32
    alone = model.apply(params, video[1, 0], config)
    assert_close(alone, logits[1, 0], within=1e-5 if single else 1e-12)
    assert_close(logits, exact, within=1e-4 if single else 0.0)


# The formulas are read on every library one by one; JAX and Dask would take long over a model.
@pytest.mark.parametrize("name", [name for name in readings.NAMES if name in {"strict", "torch"}])
@each_model
def test_other_readings_agree(model, config, name):
    reading = readings.reading(name)
    params, video = drawn(model, config), videos(config, (2,))
    there = model.apply(trees.tree_map(reading.asarray, params), reading.asarray(video), config)
    assert_close(reading.to_numpy(there), model.apply(params, video, config))
