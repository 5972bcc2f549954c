"""The parts of models: params as trees, and how they are drawn."""

import numpy as np

from vtnp._array import trees
from vtnp.models import parts
from vtnp.models.initialisers import RandomInitialiser


def test_leaves_are_named_and_mapped_in_place_of_each_other():
    tree = {"layers": [{"a": np.ones(2)}, {"a": np.zeros((3, 4))}], "b": np.ones(())}
    assert [path for path, _ in trees.tree_leaves(tree)] == ["layers.0.a", "layers.1.a", "b"]
    assert parts.size(tree) == 15
    doubled = trees.tree_map(lambda x: 2 * x, tree)
    assert doubled["layers"][0]["a"].sum() == 4
    assert tree["layers"][0]["a"].sum() == 2


def test_linear_maps_keep_the_scale_of_their_input():
    rng = np.random.default_rng(0)
    W = parts.linear(RandomInitialiser(rng, np.float64), (400, 400), 400, 400)
    y = rng.standard_normal((50, 400)) @ W
    assert abs(y.std() - 1.0) < 0.05
