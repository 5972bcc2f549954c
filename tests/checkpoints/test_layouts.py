"""Layouts of published weights: in both directions, against each other, and what does not fit.

That the layouts are right is tested where a peer or its numbers exist: the chapters' test_peers.py
load models of HuggingFace, pytorchvideo and torchvision, their test_vectors.py official layers.
"""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import readings
from tests.support.compare import assert_close
from vtnp import models
from vtnp.checkpoints import LayoutError, from_published, layouts, tensor_shapes, to_published
from vtnp.models import tree_leaves, tree_map
from vtnp.models.longnet import LongNetConfig
from vtnp.models.motionformer import MotionformerConfig
from vtnp.models.mvit import MViTConfig
from vtnp.models.nystromformer import NystromformerConfig
from vtnp.models.timesformer import TimeSformerConfig
from vtnp.models.vivit import MODELS, ViViTConfig

PAIRS = [(model, layout) for model, names in layouts().items() for layout in names]
each_pair = pytest.mark.parametrize(("model", "layout"), PAIRS)
SEQUENCES = {"nystromformer", "longnet"}

# --- Configs --------------------------------------------------------------------------------------


@st.composite
def of_layers(draw, **more):
    """What all configs have: heads, widths, layers, classes, and channels of the video."""
    heads, d_h = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    return {
        "heads": heads,
        "d": heads * d_h,
        "d_f": draw(st.integers(1, 7)),
        "layers": draw(st.integers(1, 3)),
        "classes": draw(st.integers(1, 5)),
        "channels": draw(st.integers(1, 3)),
    } | {name: draw(strategy) for name, strategy in more.items()}


@st.composite
def videos(draw):
    """Frames, image and patch whose sizes fit each other."""
    p_t, p_h, p_w, t, h, w = (draw(st.integers(1, 3)) for _ in range(6))
    return {"frames": p_t * t, "image": (p_h * h, p_w * w), "patch": (p_t, p_h, p_w)}


@st.composite
def square(draw):
    p_t, p, t, h, w = (draw(st.integers(1, 3)) for _ in range(5))
    return {"frames": p_t * t, "image": (p * h, p * w), "patch": p}, p_t


@st.composite
def timesformers(draw, layout):
    scheme = st.sampled_from(["divided", "joint", "space"])
    return TimeSformerConfig(**draw(square())[0], **draw(of_layers(scheme=scheme)))


@st.composite
def vivits(draw, layout):
    ported = layout.startswith("huggingface")
    return ViViTConfig(
        **draw(videos()),
        **draw(
            of_layers(
                model=st.sampled_from(["spatio-temporal"] if ported else list(MODELS)),
                time_layers=st.integers(0, 2),
                class_token=st.just(True) if ported else st.booleans(),
            )
        ),
    )


@st.composite
def motionformers(draw, layout):
    video, tubelet = draw(square())
    return MotionformerConfig(
        **video, **draw(of_layers(value_projection=st.booleans())), tubelet=tubelet
    )


@st.composite
def mvits(draw, layout):
    whole = draw(of_layers(mode=st.sampled_from(["conv", "max"])))
    del whole["d_f"], whole["layers"]
    stem = tuple(draw(st.integers(1, 3)) for _ in range(3))
    video = {"frames": 4, "image": (6, 8), "stem": stem, "stem_stride": (1, 2, 2)}
    return MViTConfig(
        **video,
        **whole,
        stem_padding=tuple(size // 2 for size in stem),
        stages=tuple(draw(st.lists(st.integers(1, 2), min_size=1, max_size=3))),
        size=draw(st.sampled_from([None, (3, 3, 3), (1, 3, 5)])),
        mlp_ratio=draw(st.integers(1, 3)),
    )


@st.composite
def nystromformers(draw, layout):
    return NystromformerConfig(
        **draw(videos()), **draw(of_layers(kernel=st.sampled_from([0, 1, 3])))
    )


@st.composite
def longnets(draw, layout):
    return LongNetConfig(**draw(videos()), **draw(of_layers()))


CONFIGS = {
    "timesformer": timesformers,
    "vivit": vivits,
    "motionformer": motionformers,
    "mvit": mvits,
    "nystromformer": nystromformers,
    "longnet": longnets,
}
SMALL = {
    model: getattr(models, model).CONFIGS[f"{model}-tiny"]
    for model in ("timesformer", "vivit", "motionformer", "mvit", "nystromformer", "longnet")
}


def drawn(model, config, seed=0):
    """Params whose numbers are all different."""
    rng = np.random.default_rng(seed)
    new = getattr(models, model).init(rng, config)
    return tree_map(lambda x: rng.standard_normal(x.shape), new)


def unpublished(model, params):
    """What the layouts of language models do not have."""
    if model not in SEQUENCES:
        return None
    return {name: each for name, each in params.items() if name != "layers"}


def published(model, layout, config=None, seed=0):
    """Tensors of the layout with random numbers."""
    rng = np.random.default_rng(seed)
    shapes = tensor_shapes(model, config or SMALL[model], layout)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def extra_params(model):
    return unpublished(model, drawn(model, SMALL[model]))


def read(model, layout, tensors, **options):
    options = {"extra_params": extra_params(model)} | options
    return from_published(model, SMALL[model], layout, tensors, **options)


def assert_same(tree, expected):
    tree, expected = dict(tree_leaves(tree)), dict(tree_leaves(expected))
    assert list(tree) == list(expected)
    for path, x in expected.items():
        assert np.array_equal(tree[path], x), path


# --- Both directions ------------------------------------------------------------------------------


@each_pair
@given(data=st.data())
def test_params_to_tensors_and_back_is_exact(model, layout, data):
    config = data.draw(CONFIGS[model](layout))
    params = drawn(model, config)
    tensors = to_published(model, config, layout, params)
    assert {name: x.shape for name, x in tensors.items()} == tensor_shapes(model, config, layout)
    again = from_published(model, config, layout, tensors, extra_params=unpublished(model, params))
    assert_same(again, params)


@each_pair
@given(data=st.data())
def test_tensors_to_params_and_back_is_exact(model, layout, data):
    """Except for what no model uses: the second projection of values of Motionformer."""
    config = data.draw(CONFIGS[model](layout))
    tensors = published(model, layout, config)
    extra = unpublished(model, drawn(model, config))
    params = from_published(model, config, layout, tensors, extra_params=extra)
    again = to_published(model, config, layout, params)
    assert again.keys() == tensors.keys()
    for name, x in tensors.items():
        if "proj_kv" in name and not config.value_projection:
            keys = len(x) // 2
            assert np.array_equal(again[name][:keys], x[:keys])
            assert not np.any(again[name][keys:])
        else:
            assert np.array_equal(again[name], x), name


@each_pair
def test_every_dtype_is_kept(model, layout):
    for dtype in (np.float16, np.float32):
        tensors = {name: x.astype(dtype) for name, x in published(model, layout).items()}
        extra = tree_map(lambda x, to=dtype: x.astype(to), extra_params(model))
        params = read(model, layout, tensors, extra_params=extra)
        assert {x.dtype for _, x in tree_leaves(params)} == {np.dtype(dtype)}
        again = to_published(model, SMALL[model], layout, params)
        assert {x.dtype for x in again.values()} == {np.dtype(dtype)}


# With JAX and Dask so many small arrays would take long.
@pytest.mark.parametrize("name", [name for name in readings.NAMES if name in {"strict", "torch"}])
@each_pair
def test_arrays_stay_in_their_library(model, layout, name):
    library, tensors = readings.reading(name), published(model, layout)
    in_library = {key: library.asarray(x) for key, x in tensors.items()}
    extra = tree_map(library.asarray, extra_params(model))
    params = read(model, layout, in_library, extra_params=extra)
    expected = read(model, layout, tensors)
    assert_same(tree_map(library.to_numpy, params), expected)
    again = to_published(model, SMALL[model], layout, params)
    again = {key: library.to_numpy(x) for key, x in again.items()}
    assert_same(again, to_published(model, SMALL[model], layout, expected))


# --- The layouts against what is known of the published models ------------------------------------

# The number of tensors, and of numbers in them.
KNOWN = {
    ("timesformer", "official"): ("timesformer", 249, 121_566_352),
    ("timesformer", "huggingface"): ("timesformer", 249, 121_566_352),
    ("vivit", "official"): ("vivit-b", 200, 88_954_000),
    ("vivit", "huggingface"): ("vivit-b", 200, 88_954_000),
    ("vivit", "huggingface-4"): ("vivit-b", 200, 88_954_000),
    ("mvit", "official"): ("mvit-b", 313, 36_610_672),
    ("mvit", "torchvision"): ("mvit-b", 313, 36_610_672),
    ("mvit", "pytorchvideo"): ("mvit-b", 377, 36_610_672),
}


@pytest.mark.parametrize("pair", KNOWN, ids=" ".join)
def test_published_models_have_as_many_tensors_and_numbers(pair):
    (model, layout), (name, tensors, numbers) = pair, KNOWN[pair]
    shapes = tensor_shapes(model, getattr(models, model).CONFIGS[name], layout)
    assert len(shapes) == tensors
    assert sum(map(math.prod, shapes.values())) == numbers


# Names and shapes as the released code prints them.
NAMED = {
    ("timesformer", "official", "timesformer"): {
        "pos_embed": (1, 197, 768),
        "time_embed": (1, 8, 768),
        "patch_embed.proj.weight": (768, 3, 16, 16),
        "blocks.11.temporal_attn.qkv.weight": (2304, 768),
        "blocks.0.temporal_fc.bias": (768,),
        "head.weight": (400, 768),
    },
    ("vivit", "official", "vivit-b"): {
        "cls": (1, 1, 768),
        "embedding/kernel": (2, 16, 16, 3, 768),
        "Transformer/posembed_input/pos_embedding": (1, 3137, 768),
        "Transformer/encoderblock_11/MultiHeadDotProductAttention_0/key/kernel": (768, 12, 64),
        "Transformer/encoderblock_0/MultiHeadDotProductAttention_0/out/kernel": (12, 64, 768),
        "output_projection/kernel": (768, 400),
    },
    ("vivit", "official", "vivit-b-fe"): {
        "cls_SpatialTransformer": (1, 1, 768),
        "SpatialTransformer/posembed_input/pos_embedding": (1, 197, 768),
        "TemporalTransformer/posembed_input/pos_embedding": (1, 17, 768),
        "TemporalTransformer/encoderblock_3/MlpBlock_0/Dense_1/kernel": (3072, 768),
    },
    ("vivit", "official", "vivit-b-fsa"): {
        "Transformer/encoderblock_0/LayerNorm_space/scale": (768,),
        "Transformer/encoderblock_0/MultiHeadDotProductAttention_time/query/bias": (12, 64),
        "Transformer/encoderblock_0/MlpBlock/Dense_0/kernel": (768, 3072),
    },
    ("vivit", "huggingface-4", "vivit-b"): {
        "vivit.embeddings.position_embeddings": (1, 3137, 768),
        "vivit.embeddings.patch_embeddings.projection.weight": (768, 3, 2, 16, 16),
        "vivit.encoder.layer.3.attention.attention.query.weight": (768, 768),
        "vivit.encoder.layer.3.attention.output.dense.weight": (768, 768),
        "vivit.encoder.layer.3.intermediate.dense.weight": (3072, 768),
        "classifier.weight": (400, 768),
    },
    ("motionformer", "official", "motionformer-hr"): {
        "pos_embed": (1, 197, 768),
        "temp_embed": (1, 8, 768),
        "patch_embed_3d.proj.weight": (768, 3, 2, 16, 16),
        "blocks.11.attn.proj_kv.weight": (1536, 768),
        "blocks.11.attn.proj_q.bias": (768,),
        "pre_logits.fc.weight": (768, 768),
    },
    ("mvit", "torchvision", "mvit-b"): {
        "pos_encoding.class_token": (96,),
        "pos_encoding.spatial_pos": (3136, 96),
        "blocks.0.attn.qkv.weight": (288, 96),
        "blocks.0.attn.project.0.weight": (96, 96),
        "blocks.1.attn.pool_q.pool.weight": (96, 1, 3, 3, 3),
        "blocks.13.project.weight": (768, 384),
        "head.1.weight": (400, 768),
    },
    ("nystromformer", "official", "nystromformer"): {
        "transformer_0.mha.W_q.weight": (768, 768),
        "transformer_11.mha.attn.conv.weight": (12, 1, 33, 1),
        "transformer_11.ff1.weight": (3072, 768),
    },
    ("longnet", "torchscale", "longnet"): {
        "layers.0.self_attn.out_proj.weight": (768, 768),
        "layers.11.ffn.fc2.weight": (768, 3072),
        "layers.11.final_layer_norm.bias": (768,),
    },
}


@pytest.mark.parametrize("key", NAMED, ids=" ".join)
def test_names_and_tensor_shapes_published_models(key):
    model, layout, name = key
    shapes = tensor_shapes(model, getattr(models, model).CONFIGS[name], layout)
    for tensor, shape in NAMED[key].items():
        assert shapes[tensor] == shape


def test_scenic_to_huggingface_is_what_its_converter_does():
    """Kernels flattened and transposed; the embedding's axes d C t h w."""
    config = SMALL["vivit"]
    scenic = published("vivit", "official")
    port = to_published("vivit", config, "huggingface", read("vivit", "official", scenic))
    in_scenic = "Transformer/encoderblock_1/MultiHeadDotProductAttention_0"
    in_port = "vivit.layers.1.attention"
    d = config.d
    for word in ("query", "key", "value"):
        kernel, bias = scenic[f"{in_scenic}/{word}/kernel"], scenic[f"{in_scenic}/{word}/bias"]
        assert np.array_equal(port[f"{in_port}.{word[0]}_proj.weight"], kernel.reshape(d, d).T)
        assert np.array_equal(port[f"{in_port}.{word[0]}_proj.bias"], bias.reshape(d))
    output = scenic[f"{in_scenic}/out/kernel"].reshape(d, d).T
    assert np.array_equal(port[f"{in_port}.o_proj.weight"], output)
    embedding = scenic["embedding/kernel"].transpose(4, 3, 0, 1, 2)
    name = "vivit.embeddings.patch_embeddings.projection.weight"
    assert np.array_equal(port[name], embedding)


def test_both_layouts_of_vivit_in_huggingface():
    """Version 5 renames the tensors of version 4 when it loads them."""
    old = published("vivit", "huggingface-4")
    new = to_published("vivit", SMALL["vivit"], "huggingface", read("vivit", "huggingface-4", old))
    for was, now in {
        "encoder.layer.": "layers.",
        "attention.attention.query": "attention.q_proj",
        "attention.attention.key": "attention.k_proj",
        "attention.attention.value": "attention.v_proj",
        "attention.output.dense": "attention.o_proj",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }.items():
        old = {name.replace(was, now): x for name, x in old.items()}
    assert_same(new, old)


def test_pytorchvideo_and_the_official_mvit():
    """One has separate tensors for queries, keys and values, the other one tensor."""
    apart = published("mvit", "pytorchvideo")
    fused = to_published("mvit", SMALL["mvit"], "official", read("mvit", "pytorchvideo", apart))
    rows = [apart[f"blocks.1.attn.{letter}.weight"] for letter in "qkv"]
    assert np.array_equal(fused["blocks.1.attn.qkv.weight"], np.concatenate(rows))
    assert np.array_equal(
        fused["blocks.1.attn.pool_k.weight"], apart["blocks.1.attn.pool_k.weight"]
    )
    assert np.array_equal(fused["head.projection.bias"], apart["head.proj.bias"])


def test_the_official_nystromformer_and_huggingface():
    params = read("nystromformer", "official", published("nystromformer", "official"))
    port = to_published("nystromformer", SMALL["nystromformer"], "huggingface", params)
    released = to_published("nystromformer", SMALL["nystromformer"], "official", params)
    for name, name_in_port in {
        "transformer_1.mha.W_v.weight": "encoder.layer.1.attention.self.value.weight",
        "transformer_1.mha.attn.conv.weight": "encoder.layer.1.attention.self.conv.weight",
        "transformer_1.mha.ff.bias": "encoder.layer.1.attention.output.dense.bias",
        "transformer_1.norm1.weight": "encoder.layer.1.attention.output.LayerNorm.weight",
        "transformer_1.ff1.weight": "encoder.layer.1.intermediate.dense.weight",
        "transformer_1.norm2.bias": "encoder.layer.1.output.LayerNorm.bias",
    }.items():
        assert np.array_equal(released[name], port[name_in_port])


def test_patches_are_flattened_in_the_order_of_the_formula():
    """It is a convolution whose windows do not overlap: the video's patch times the kernel."""
    rng, config = np.random.default_rng(0), replace(SMALL["motionformer"], channels=2)
    tensors = published("motionformer", "official", config)
    params = from_published("motionformer", config, "official", tensors)
    patch = rng.standard_normal((config.tubelet, config.patch, config.patch, 2))
    kernel = tensors["patch_embed_3d.proj.weight"]
    expected = np.einsum("thwc,dcthw->d", patch, kernel)
    assert_close(patch.reshape(-1) @ params["embedding"]["E"], expected)


# --- What does not fit ----------------------------------------------------------------------------


def problems_of(call, *args, **options):
    """The problems that a call raises: the detail of each by its kind and name."""
    with pytest.raises(LayoutError) as error:
        call(*args, **options)
    lines = str(error.value).split("\n")
    assert len(lines) == 1 + len(error.value.problems)
    number = len(error.value.problems)
    assert lines[0].endswith(f": {number} key{'s' if number > 1 else ''} wrong")
    for line, problem in zip(lines[1:], error.value.problems, strict=True):
        assert line.strip() == f"{problem.kind} {problem.name!r}: {problem.detail}"
    return {(problem.kind, problem.name): problem.detail for problem in error.value.problems}


@each_pair
@given(data=st.data())
def test_every_key_that_does_not_fit_is_listed(model, layout, data):
    tensors = published(model, layout)
    names = st.lists(st.sampled_from(sorted(tensors)), unique=True, max_size=8)
    missing, misshaped, integer = data.draw(names), data.draw(names), data.draw(names)
    unknown = data.draw(st.lists(st.text(max_size=9).map("no such {}".format), max_size=4))
    expected = {("missing", name) for name in missing} | {("unknown", name) for name in unknown}
    for name in missing:
        del tensors[name]
    for name in misshaped:
        if name in tensors:
            tensors[name] = tensors[name][None]
            expected.add(("wrong shape", name))
    for name in integer:
        if name in tensors and name not in misshaped:
            tensors[name] = np.zeros(tensors[name].shape, int)
            expected.add(("wrong dtype", name))
    tensors |= {name: np.zeros(2) for name in unknown}
    if expected:
        assert problems_of(read, model, layout, tensors).keys() == expected
    else:
        assert_same(read(model, layout, tensors), read(model, layout, published(model, layout)))


@each_pair
def test_nothing_at_all_lists_everything(model, layout):
    problems = problems_of(read, model, layout, {})
    assert set(problems) == {("missing", name) for name in published(model, layout)}


def test_shapes_are_reported():
    tensors = published("timesformer", "official")
    tensors["norm.bias"] = np.zeros(5)
    problems = problems_of(read, "timesformer", "official", tensors)
    assert problems == {("wrong shape", "norm.bias"): "expected (24,), got (5,)"}


def test_near_names_are_of_the_same_layer():
    tensors = published("timesformer", "official")
    tensors["blocks.1.nrom2.weight"] = tensors.pop("blocks.1.norm2.weight")
    problems = problems_of(read, "timesformer", "official", tensors)
    assert problems["missing", "blocks.1.norm2.weight"] == "expected (24,)"
    unknown = problems["unknown", "blocks.1.nrom2.weight"]
    assert unknown == "a tensor of shape (24,); near 'blocks.1.norm2.weight'"


def test_what_is_not_an_array_is_reported():
    tensors = published("longnet", "torchscale") | {"layers.0.ffn.fc1.bias": [1.0], "epoch": 3}
    problems = problems_of(read, "longnet", "torchscale", tensors)
    assert problems == {
        ("wrong dtype", "layers.0.ffn.fc1.bias"): "expected a tensor, got an object of type list",
        ("unknown", "epoch"): "an object of type int",
    }


@pytest.mark.parametrize("lacks", ["shape", "dtype"])
def test_what_lacks_a_shape_or_a_dtype_is_no_tensor(lacks):
    half = SimpleNamespace(shape=(48,), dtype=np.dtype(np.float32))
    delattr(half, lacks)
    tensors = published("longnet", "torchscale") | {"layers.0.ffn.fc1.bias": half}
    assert problems_of(read, "longnet", "torchscale", tensors) == {
        ("wrong dtype", "layers.0.ffn.fc1.bias"): (
            "expected a tensor, got an object of type SimpleNamespace"
        ),
    }


def test_an_additional_layer_is_reported():
    deeper = replace(SMALL["timesformer"], layers=3)
    tensors = published("timesformer", "official", deeper)
    problems = problems_of(read, "timesformer", "official", tensors)
    third = {name for name in tensors if name.startswith("blocks.2.")}
    assert set(problems) == {("unknown", name) for name in third}


def test_a_second_name_must_hold_the_same_numbers():
    """pytorchvideo has its pooling twice; either name is enough."""
    tensors = published("mvit", "pytorchvideo")
    name, copy = "blocks.1.attn.pool_q.weight", "blocks.1.attn._attention_pool_q.pool.weight"
    params = read("mvit", "pytorchvideo", tensors)
    assert_same(read("mvit", "pytorchvideo", tensors | {copy: tensors[name].copy()}), params)
    renamed = {copy if each == name else each: x for each, x in tensors.items()}
    assert_same(read("mvit", "pytorchvideo", renamed), params)
    problems = problems_of(read, "mvit", "pytorchvideo", tensors | {copy: tensors[name] + 1})
    assert problems == {
        ("contradictory", copy): f"it is {name!r} under another name, with other numbers"
    }
    problems = problems_of(read, "mvit", "pytorchvideo", tensors | {copy: tensors[name][1:]})
    assert list(problems) == [("wrong shape", copy)]


@pytest.mark.parametrize(
    ("model", "layout", "names"),
    [
        ("motionformer", "official", ["patch_embed.proj.weight", "patch_embed.proj.bias"]),
        (
            "nystromformer",
            "official",
            ["embeddings.word_embeddings.weight", "transformer_0.mha.attn.conv.bias"],
        ),
        (
            "nystromformer",
            "huggingface",
            ["embeddings.position_ids", "cls.predictions.bias", "classifier.dense.weight"],
        ),
        ("longnet", "torchscale", ["output_projection.weight", "layer_norm.weight"]),
    ],
)
def test_what_is_known_not_to_be_needed_is_ignored(model, layout, names):
    tensors = published(model, layout)
    more = tensors | {name: np.zeros(3) for name in names}
    assert_same(read(model, layout, more), read(model, layout, tensors))


def test_the_other_embedding_of_motionformer():
    """With tubelets of one frame the embedding of images is used."""
    config = replace(SMALL["motionformer"], tubelet=1)
    tensors = published("motionformer", "official", config)
    assert "patch_embed.proj.weight" in tensors
    more = tensors | {"patch_embed_3d.proj.weight": np.zeros(3)}
    again = from_published("motionformer", config, "official", more)
    assert_same(again, from_published("motionformer", config, "official", tensors))


def test_what_longnet_does_not_support_is_refused_with_the_reason():
    """Without these it would be another function."""
    tensors = published("longnet", "torchscale")
    unsupported = {
        "layers.0.self_attn.inner_attn_ln.weight": "subln",
        "layers.1.ffn.ffn_layernorm.bias": "subln",
        "layers.0.self_attn.xpos.scale": "xPos",
        "layers.0.ffn.A.fc1.weight": "multiway",
        "layers.0.ffn.B.fc1.weight": "multiway",
    }
    more = tensors | {name: np.zeros(3) for name in unsupported}
    problems = problems_of(read, "longnet", "torchscale", more)
    assert set(problems) == {("unsupported", name) for name in unsupported}
    for name, reason in unsupported.items():
        assert reason in problems["unsupported", name]


@pytest.mark.parametrize("model", sorted(SEQUENCES))
def test_what_language_models_do_not_have_must_be_passed(model):
    layout = layouts()[model][0]
    problems = problems_of(read, model, layout, published(model, layout), extra_params=None)
    paths = {path for path, _ in tree_leaves(extra_params(model))}
    assert set(problems) == {("no counterpart", path) for path in paths}
    assert all("pass it in `extra_params`" in reason for reason in problems.values())


def test_a_head_for_other_classes_can_be_passed():
    config = SMALL["timesformer"]
    more = replace(config, classes=9)
    tensors = published("timesformer", "official", config)
    problems = problems_of(from_published, "timesformer", more, "official", tensors)
    assert set(problems) == {("wrong shape", "head.weight"), ("wrong shape", "head.bias")}
    head = {"W": np.ones((config.d, 9)), "b": np.zeros(9)}
    params = from_published("timesformer", more, "official", tensors, extra_params={"head": head})
    assert_same(params, read("timesformer", "official", tensors) | {"head": head})


def test_what_is_passed_must_fit_too():
    tensors = published("timesformer", "official")
    extra = {"head": {"W": np.ones((2, 2)), "c": np.ones(3)}}
    problems = problems_of(read, "timesformer", "official", tensors, extra_params=extra)
    assert set(problems) == {("wrong shape", "head.W"), ("unknown", "head.c")}


@pytest.mark.parametrize(
    ("config", "layout"),
    [
        (replace(SMALL["timesformer"], scheme="axial"), "official"),
        (replace(SMALL["vivit"], model="factorised-encoder"), "huggingface"),
        (replace(SMALL["vivit"], class_token=False), "huggingface"),
    ],
    ids=["axial", "model-2", "no-class-token"],
)
def test_models_that_nobody_published_are_refused(config, layout):
    model = "vivit" if isinstance(config, ViViTConfig) else "timesformer"
    problems = problems_of(to_published, model, config, layout, drawn(model, config))
    assert {kind for kind, _ in problems} == {"no counterpart"}
    assert set(problems.values()) >= {
        f"the layout has no such weights; a param of shape ({config.d},)"
    }


def test_params_that_are_not_the_configs_are_listed():
    config = SMALL["motionformer"]
    params = drawn("motionformer", config)
    params["layers"][1]["norm_1"]["gamma"] = np.zeros(5)
    params["gead"] = params.pop("head")
    problems = problems_of(to_published, "motionformer", config, "official", params)
    assert problems == {
        ("wrong shape", "layers.1.norm_1.gamma"): "expected (24,), got (5,)",
        ("missing", "head.W"): "expected (24, 4)",
        ("missing", "head.b"): "expected (4,)",
        ("unknown", "gead.W"): "a param of shape (24, 4); near 'head.W'",
        ("unknown", "gead.b"): "a param of shape (4,); near 'head.b'",
    }


def test_unknown_models_layouts_and_configs_are_refused():
    with pytest.raises(ValueError, match="unknown model 'x': expected one of"):
        from_published("x", SMALL["vivit"], "official", {})
    with pytest.raises(
        ValueError, match=r"longnet has no layout 'official', only \['torchscale'\]"
    ):
        from_published("longnet", SMALL["longnet"], "official", {})
    with pytest.raises(TypeError, match="vivit has a ViViTConfig, got LongNetConfig"):
        tensor_shapes("vivit", SMALL["longnet"], "official")
