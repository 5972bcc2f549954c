"""The video encoder of Nyström attention."""

import math
from dataclasses import replace

import numpy as np
import pytest
from autograd import grad

from tests.support.compare import assert_close, difference
from tests.support.whole_models import (
    assert_every_param_has_a_gradient_and_a_step_along_it_helps,
    drawn,
    logits_of_pre_norm_layers,
    loss,
    new,
    videos,
)
from vtnp._array import trees
from vtnp.models import nystromformer as model

TINY = model.CONFIGS["nystromformer-tiny"]


def test_the_released_start_value_makes_videos_of_a_batch_depend_on_each_other():
    params, video = drawn(model, TINY), videos(TINY, (2,))
    # At first all scores are near 0 and all start values alike.
    for layer in params["layers"]:
        layer["attention"]["W_q"] = 30.0 * layer["attention"]["W_q"]
    for start, apart in (("paper", False), ("original", True)):
        config = replace(TINY, start=start)
        together = model.apply(params, video, config)
        alone = np.stack([model.apply(params, each, config) for each in video])
        # The video with the largest sums has its own start value in either case.
        assert (difference(alone, together) > 1e-6) == apart


def test_all_landmarks_without_kernel_are_a_stack_of_pre_norm_layers():
    config = replace(TINY, image=(4, 4), patch=(2, 4, 4), landmarks=4, kernel=0, pinv="exact")
    params, video = drawn(model, config), videos(config, (2,))
    # Tokens that attend mostly to themselves, so that the pseudo-inverse is well conditioned.
    for layer in params["layers"]:
        layer["attention"]["W_q"] = 3.0 * layer["attention"]["W_k"]
    expected = logits_of_pre_norm_layers(params, video, config)
    assert_close(model.apply(params, video, config), expected)


def test_every_param_has_a_gradient_and_a_step_along_it_helps():
    assert_every_param_has_a_gradient_and_a_step_along_it_helps(model, TINY)


def largest_gradient(config, seed):
    video, labels = videos(config, (2,), seed), [0, 3]
    gradient = grad(loss)(new(model, config, seed), model, config, video, labels)
    return max(np.max(np.abs(g)) for _, g in trees.tree_leaves(gradient))


def test_exact_inverse_has_unbounded_gradients_at_random_weights():
    """Finite, but of some draws hundreds of times larger than the iteration's."""
    exact = [largest_gradient(replace(TINY, pinv="exact"), seed) for seed in range(4)]
    iterative = [largest_gradient(TINY, seed) for seed in range(4)]
    assert max(iterative) < 1.0
    assert 50.0 < max(exact) < np.inf


def test_configs():
    for config in model.CONFIGS.values():
        assert config.landmarks < math.prod(config.grid)
        assert config.kernel % 2 == 1
    assert model.CONFIGS["nystromformer"].d == 768
    with pytest.raises(ValueError, match="not a multiple of the patch"):
        model.NystromformerConfig(image=(20, 20))
