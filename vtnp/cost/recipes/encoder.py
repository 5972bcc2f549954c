"""Sizes of vtnp.encoder's formulas: an image of ViT-B/16, its 196 patches and the class token."""

from vtnp.cost.recipes.tables import (
    HEADS,
    LAYER,
    Recipe,
    Sizes,
    Table,
    attention,
    attention_half,
    feed_forward,
    feed_forward_half,
    layer,
    letters,
    norm,
)


def _decoder(z: Sizes) -> Table:
    norms = {f"norm_{i}": norm(z) for i in (1, 2, 3)}
    both = {f"{kind}_attention": attention(z) for kind in ("self", "cross")}
    return {**both, **norms, "feed_forward": feed_forward(z)}


SIZES: Table = {}
RECIPES = {
    "encoder-layer": Recipe(names=LAYER, params=layer),
    "pre-norm-layer": Recipe(names=LAYER, params=layer),
    "self-attention-sublayer": Recipe(names=HEADS, params=attention_half),
    "feed-forward-sublayer": Recipe(names=letters("d_f", biases=bool), params=feed_forward_half),
    "decoder-layer": Recipe(names=LAYER, params=_decoder),
}
