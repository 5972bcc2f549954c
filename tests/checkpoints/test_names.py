"""Names of published tensors, as the repositories have them that published the weights."""

import pytest

from vtnp.checkpoints import tensor_shapes
from vtnp.models.mvit import CONFIGS

PYSLOWFAST = """
    cls_token pos_embed_spatial pos_embed_temporal pos_embed_class patch_embed.proj.weight
    patch_embed.proj.bias norm.weight norm.bias head.projection.weight head.projection.bias
"""


TORCHVISION = """
    conv_proj.weight conv_proj.bias pos_encoding.class_token pos_encoding.spatial_pos
    pos_encoding.temporal_pos pos_encoding.class_pos norm.weight norm.bias head.1.weight head.1.bias
"""


@pytest.mark.parametrize(
    ("layout", "names"), [("official", PYSLOWFAST), ("torchvision", TORCHVISION)]
)
def test_names_outside_the_blocks_of_mvit(layout, names):
    shapes = tensor_shapes("mvit", CONFIGS["mvit-b"], layout)
    assert {name for name in shapes if not name.startswith("blocks.")} == set(names.split())
