"""The video encoder of dilated attention."""

import math
from dataclasses import replace

import pytest

from tests.support.compare import assert_close
from tests.support.whole_models import (
    assert_every_param_has_a_gradient_and_a_step_along_it_helps,
    drawn,
    logits_of_pre_norm_layers,
    videos,
)
from vtnp.longnet import Branch
from vtnp.models import longnet as model

TINY = model.CONFIGS["longnet-tiny"]


def test_one_dense_branch_is_a_stack_of_pre_norm_layers():
    n = math.prod(TINY.grid)
    config = replace(TINY, branches=(Branch(n, 1),))
    params, video = drawn(model, config), videos(config, (2,))
    expected = logits_of_pre_norm_layers(params, video, config)
    assert_close(model.apply(params, video, config), expected)


def test_every_param_has_a_gradient_and_a_step_along_it_helps():
    assert_every_param_has_a_gradient_and_a_step_along_it_helps(model, TINY)


def test_configs():
    for config in model.CONFIGS.values():
        dilations = [branch.dilation for branch in config.branches]
        assert 1 in dilations, "no branch might select some token"
        assert max(dilations) <= config.heads, "some branch might leave tokens out"
    assert model.CONFIGS["longnet"].d == 768
    with pytest.raises(ValueError, match="not a multiple of the patch"):
        model.LongNetConfig(image=(20, 20))
