"""Sizes of vtnp.nystromformer's formulas: Nystromformer's BERT, 512 tokens, 64 landmarks.

Where a formula is that of one head, its width is 64; 6 iterations, a convolution over 33 tokens
(Xiong et al. 2021, and its released code, which has 35 for the Long Range Arena).
"""

from vtnp.cost.recipes.recipe import Recipe, Sizes


def _landmarks(z: Sizes) -> int | None:
    return None if z["Q_tilde"] else 64


_HEAD = {"d": 64}
SIZES = {"n": 512, "l": 64}
RECIPES = {
    "softmax-blocks": Recipe(_HEAD),
    "pseudo-inverse": Recipe({"m": 64}),
    "nystrom-approximation": Recipe({"k": 512 - 64}),
    "segment-means": Recipe(_HEAD),
    "nystrom-attention": Recipe(
        {
            **_HEAD,
            "Q_tilde": False,
            "K_tilde": lambda z: z["Q_tilde"],
            "landmarks": _landmarks,
        }
    ),
    "sequence-convolution": Recipe({"k": 33}),
    "nystrom-self-attention": Recipe({"k": 33, "kernel": True, "landmarks": 64}),
}
