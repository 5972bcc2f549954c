"""Sizes of vtnp.tokens' formulas: TimeSformer's clip, 8 frames of 224 x 224 pixels, patches of 16.

Kernels are ViViT's tubelets of 2 x 16 x 16 pixels, sliding windows those of MViT's first
convolution. No paper gives sizes for clips and instances: clips here have two frames, and each
frame ten boxes with the 7 x 7 cells of RoIAlign (He et al. 2017).
"""

from vtnp.cost.recipes.recipe import Recipe

SIZES = {"k_t": 2, "k_h": 16, "k_w": 16}
RECIPES = {
    "patch-tokens": Recipe({"size": (1, 16, 16)}),
    "clip-tokens": Recipe({"length": 2}),
    "instance-tokens": Recipe({"k": 10, "size": (7, 7)}),
    "bilinear-sample": Recipe({"k": lambda z: z["h"] * z["w"]}),
    "sliding-windows": Recipe(
        {"T": 16, "size": (3, 7, 7), "stride": (2, 4, 4), "padding": (1, 3, 3)}
    ),
    "spatial-embedding": Recipe({"stride": lambda z: (z["k_h"], z["k_w"])}),
    "spatio-temporal-embedding": Recipe({"stride": lambda z: (z["k_t"], z["k_h"], z["k_w"])}),
}
