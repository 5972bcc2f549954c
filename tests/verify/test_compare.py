"""`vtnp compare` on HuggingFace's models with random weights: agreement, and planted faults named.

Their models have none of their initial weights, so that no part is without effect. What is
compared runs in double precision unless a test says otherwise.
"""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest import mock
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from tests.official.timesformer import TimeSformer
from tests.support.peers import installed, needs
from vtnp._array.trees import tree_leaves
from vtnp._registry.errors import UsageError
from vtnp.checkpoints import FileError, save, to_published
from vtnp.cli import main
from vtnp.models.nystromformer import NystromformerConfig
from vtnp.models.timesformer import TimeSformerConfig
from vtnp.models.vivit import ViViTConfig
from vtnp.verify.models.axes import arranged
from vtnp.verify.models.compare import compare
from vtnp.verify.models.name_table import NameTable, read_table
from vtnp.verify.models.subjects import weights

torch = installed("torch")
transformers = installed("transformers")
pytestmark = [needs(torch, "vtnp[peers]"), needs(transformers, "vtnp[peers]")]

D, D_F = 12, 20
TIMESFORMER = TimeSformerConfig(
    frames=3, image=(8, 8), patch=4, d=D, heads=2, d_f=D_F, layers=2, classes=5
)
VIVIT = ViViTConfig(
    frames=4, image=(8, 12), patch=(2, 4, 4), d=D, heads=2, d_f=D_F, layers=2, classes=5
)
NYSTROMFORMER = NystromformerConfig(
    frames=12, image=(4, 4), patch=(1, 4, 4), d=D, heads=3, d_f=D_F, layers=2, kernel=5,
    landmarks=4, start="original", eps=1e-5, activation="gelu_tanh",
)  # fmt: skip
SIZES = {
    "hidden_size": D, "num_hidden_layers": 2, "intermediate_size": D_F, "num_labels": 5
}  # fmt: skip


def randomised(module):
    torch.manual_seed(0)
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    return module


def timesformer(alone=False, **options):
    config = transformers.TimesformerConfig(
        image_size=8, patch_size=4, num_frames=3, num_attention_heads=2, **SIZES, **options
    )
    kind = "TimesformerModel" if alone else "TimesformerForVideoClassification"
    return randomised(getattr(transformers, kind)(config))


def vivit(attention="sdpa"):
    config = transformers.VivitConfig(
        image_size=[8, 12],
        num_frames=4,
        tubelet_size=[2, 4, 4],
        num_attention_heads=2,
        hidden_act="gelu_pytorch_tanh",
        attn_implementation=attention,
        **SIZES,
    )
    return randomised(transformers.VivitForVideoClassification(config))


def nystromformer():
    config = transformers.NystromformerConfig(
        num_attention_heads=3,
        num_landmarks=4,
        segment_means_seq_len=12,
        conv_kernel_size=5,
        vocab_size=11,
        max_position_embeddings=12,
        **SIZES,
    )
    return randomised(transformers.NystromformerModel(config))


MODELS = {
    "timesformer": (timesformer, TIMESFORMER),
    "vivit": (vivit, VIVIT),
    "nystromformer": (nystromformer, NYSTROMFORMER),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights of each model, with the names of HuggingFace's."""
    folder = tmp_path_factory.mktemp("weights")
    found = {}
    for name, (made, _) in MODELS.items():
        found[name] = folder / f"{name}.safetensors"
        tensors = {key: x.detach().numpy() for key, x in made().state_dict().items()}
        save(found[name], tensors)
    return found


def compared(files, model, fault=None, made=None, **options):
    """Compare the model's weights in its own class, with a fault planted when they are loaded."""
    usual, config = MODELS[model]

    def candidate(path):
        from safetensors.torch import load_file

        module = (made or usual)()
        weights = load_file(path)
        assert module.load_state_dict(weights, strict=made is None).missing_keys == []
        if fault is not None:
            with torch.no_grad():
                fault(module)
        return module

    return compare(
        model, config, files[model], layout="huggingface", candidate=candidate, **options
    )


def diverging(report, kind):
    return [line.what for line in report.lines if line.kind == kind and not line.holds]


# --- Agreement ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("model", "quantities"), [("timesformer", 75), ("vivit", 28), ("nystromformer", 24)]
)
def test_all_quantities_agree(files, model, quantities, dtype):
    report = compared(files, model, dtype=dtype)
    assert [line for line in report.lines if not line.holds] == []
    assert report.status == 0
    assert report.findings == ()
    names = [line.what for line in report.lines if line.kind == "value"]
    assert len(set(names)) == len(names) == quantities
    assert names == [line.what for line in report.lines if line.kind == "isolated"]


def test_order_is_that_of_computation(files):
    report = compared(files, "nystromformer")
    names = [line.what for line in report.lines if line.kind == "isolated"]
    one = (
        "q k v context attention_output norm_1.input norm_1 "
        "pre_activation hidden feed_forward norm_2.input norm_2"
    ).split()
    assert names == [f"layers.{i}.{quantity}" for i in (0, 1) for quantity in one]


def test_weights_are_loaded_into_a_module_that_a_factory_makes(files):
    """Its own weights are others: agreement is the file's."""

    def candidate():
        module = timesformer()
        for weight in module.parameters():
            torch.nn.init.zeros_(weight)
        return module

    report = compare(
        "timesformer", TIMESFORMER, files["timesformer"], layout="huggingface", candidate=candidate
    )
    assert report.status == 0


def test_model_without_the_prefix_and_the_head(files):
    report = compare(
        "timesformer",
        TIMESFORMER,
        files["timesformer"],
        layout="huggingface",
        candidate=partial(timesformer, alone=True),
    )
    assert report.status == 0
    assert "not used by the candidate: classifier.bias, classifier.weight" in report.notes[0]
    assert "logits" in report.notes[1]


def test_eager_attention_exposes_weights_and_has_them_in_float32(files):
    made = partial(vivit, attention="eager")
    right = compared(files, "vivit", made=made, dtype="float32")
    assert right.status == 0
    assert "encoder.layers.1.weights" in [line.what for line in right.lines]
    report = compared(files, "vivit", made=made)
    assert [finding.title for finding in report.findings] == [
        "encoder.layers.0: weights", "encoder.layers.1: weights"
    ]  # fmt: skip
    assert "is it computed in that?" in report.findings[0].explanation


def test_a_file_that_is_unpickled_is_noted(tmp_path):
    module = timesformer()
    file = tmp_path / "weights.pth"
    torch.save(module.state_dict(), file)
    report = compare(
        "timesformer", TIMESFORMER, file, layout="huggingface", candidate=lambda: module
    )
    assert report.right
    assert f"{file} was unpickled by torch.load with weights_only" in report.notes


def test_names_of_the_released_timesformer(tmp_path):
    made = partial(TimeSformer, TIMESFORMER)
    file = tmp_path / "weights.safetensors"
    tensors = randomised(made()).state_dict().items()
    save(file, {f"model.{key}": x.numpy() for key, x in tensors})
    right = compare("timesformer", TIMESFORMER, file, layout="official", candidate=made)
    assert right.status == 0
    assert len(right.lines) == 2 * 75

    def faulty():
        module = made()
        module.blocks[1].temporal_attn.scale = 1.0
        return module

    wrong = compare("timesformer", TIMESFORMER, file, layout="official", candidate=faulty)
    assert [finding.title for finding in wrong.findings] == ["layers.1.time: weights"]


def test_joint_attention(tmp_path):
    config = replace(TIMESFORMER, scheme="joint")

    def made():
        return timesformer(attention_type="joint_space_time")

    file = tmp_path / "weights.safetensors"
    save(file, {key: x.detach().numpy() for key, x in made().state_dict().items()})
    right = compare("timesformer", config, file, layout="huggingface", candidate=made)
    assert right.status == 0
    assert len(right.lines) == 2 * 53

    def faulty():
        module = made()
        module.timesformer.encoder.layer[0].attention.attention.scale = 1.0
        return module

    wrong = compare("timesformer", config, file, layout="huggingface", candidate=faulty)
    assert [finding.title for finding in wrong.findings] == ["layers.0: context"]


# --- Weights that layers share --------------------------------------------------------------------


@pytest.fixture
def _shared_gain(monkeypatch):
    """Both layers of our ViViT have the very same array as the gain of their first norm."""

    def shared(*arguments):
        params, tensors = weights(*arguments)
        first, second = (layer["norm_1"] for layer in params["encoder"]["layers"])
        second["gamma"] = first["gamma"]
        return params, tensors

    monkeypatch.setattr("vtnp.verify.models.compare.weights", shared)


def share_gain(module):
    first, second = (layer.layernorm_before for layer in module.vivit.layers)
    second.weight = first.weight


@pytest.mark.usefixtures("_shared_gain")
def test_a_gain_that_two_layers_share_is_attributed_to_the_layer_that_uses_it(files):
    right = compared(files, "vivit", share_gain)
    assert right.status == 0
    assert len(right.lines) == 2 * 28

    def plant(module):
        share_gain(module)
        module.vivit.layers[1].layernorm_before.eps = 1e-3

    wrong = compared(files, "vivit", plant)
    assert [finding.title for finding in wrong.findings] == ["encoder.layers.1: norm_1"]
    assert diverging(wrong, "value")[0] == "encoder.layers.1.norm_1"
    assert diverging(wrong, "isolated") == ["encoder.layers.1.norm_1"]


# --- Planted faults -------------------------------------------------------------------------------


def transposed(linear):
    linear.weight.copy_(linear.weight.T.clone())


def queries_transposed(qkv):
    """Of one linear map for queries, keys and values."""
    qkv.weight[:D] = qkv.weight[:D].T.clone()


def without_scale(attention):
    """Of a module that divides queries and keys by fourth roots."""
    from transformers.models.nystromformer import modeling_nystromformer as modeling

    forward = attention.forward

    def unscaled(*args, **kwargs):
        with mock.patch.object(modeling, "math", SimpleNamespace(sqrt=lambda _: 1.0)):
            return forward(*args, **kwargs)

    attention.forward = unscaled


FAULTS = {
    "timesformer-eps": (
        "timesformer",
        lambda m: setattr(m.timesformer.encoder.layer[1].temporal_layernorm, "eps", 1e-5),
        ("layers.1.time: norm_1", "layers.1.time.norm_1", "eps-of-torch (layer-norm)"),
    ),
    "timesformer-eps-space": (
        "timesformer",
        lambda m: setattr(m.timesformer.encoder.layer[0].layernorm_before, "eps", 1e-3),
        ("layers.0.space: norm_1", "layers.0.space.norm_1", "eps = 0.001"),
    ),
    "timesformer-scale": (
        "timesformer",
        lambda m: setattr(m.timesformer.encoder.layer[1].attention.attention, "scale", 1.0),
        ("layers.1.space: weights", "layers.1.space.weights", "no-scale (attention-weights)"),
    ),
    "timesformer-scale-in-time": (
        "timesformer",
        lambda m: setattr(
            m.timesformer.encoder.layer[0].temporal_attention.attention, "scale", D**-0.5
        ),
        ("layers.0.time: weights", "layers.0.time.weights", "scale = 1 / sqrt(heads d_h)"),
    ),
    "timesformer-transposed": (
        "timesformer",
        lambda m: queries_transposed(m.timesformer.encoder.layer[1].attention.attention.qkv),
        ("layers.1.space: q", "layers.1.space.q", "its weight transposed"),
    ),
    "timesformer-fc-transposed": (
        "timesformer",
        lambda m: transposed(m.timesformer.encoder.layer[0].temporal_dense),
        ("layers.0.time: fc", "layers.0.time.fc", "Look for a transposed weight"),
    ),
    "vivit-eps": (
        "vivit",
        lambda m: setattr(m.vivit.layers[1].layernorm_after, "eps", 1e-12),
        ("encoder.layers.1: norm_2", "encoder.layers.1.norm_2", "eps = 1e-12"),
    ),
    "vivit-scale": (
        "vivit",
        lambda m: setattr(m.vivit.layers[1].attention, "scaling", 1.0),
        ("encoder.layers.1: context", "encoder.layers.1.context", "no-scale (attention-weights)"),
    ),
    "vivit-transposed": (
        "vivit",
        lambda m: transposed(m.vivit.layers[0].attention.k_proj),
        ("encoder.layers.0: k", "encoder.layers.0.k", "its weight transposed"),
    ),
    "vivit-activation": (
        "vivit",
        lambda m: setattr(m.vivit.layers[1].mlp, "activation_fn", torch.nn.GELU()),
        ("encoder.layers.1: hidden", "encoder.layers.1.hidden", "other-form (gelu)"),
    ),
    "nystromformer-eps": (
        "nystromformer",
        lambda m: setattr(m.encoder.layer[1].output.LayerNorm, "eps", 1e-3),
        ("layers.1: norm_2", "layers.1.norm_2", "eps = 0.001"),
    ),
    "nystromformer-scale": (
        "nystromformer",
        lambda m: without_scale(m.encoder.layer[1].attention.self),
        ("layers.1: context", "layers.1.context", "no-scale (attention-weights)"),
    ),
    "nystromformer-transposed": (
        "nystromformer",
        lambda m: transposed(m.encoder.layer[0].attention.output.dense),
        ("layers.0: attention_output", "layers.0.attention_output", "its weight transposed"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named_with_its_block_and_quantity(files, fault):
    model, plant, (title, first, why) = FAULTS[fault]
    report = compared(files, model, plant)
    assert report.status == 1
    assert [finding.title for finding in report.findings] == [title]
    (finding,) = report.findings
    assert finding.explanation.startswith(
        "The first to diverge; wrong also from the candidate's own inputs"
    )
    assert any(why in text for text in (finding.explanation, *finding.equivalents))
    assert diverging(report, "value")[0] == first
    at_fault = {name.removesuffix(".cls") for name in diverging(report, "isolated")}
    assert at_fault == {first}


# Where a param first shows, by the last words of its path.
_SHOWS = {
    "attention.W_q": "q", "attention.b_q": "q", "attention.W_k": "k", "attention.b_k": "k",
    "attention.W_v": "v", "attention.b_v": "v", "attention.W_c": "attention_output",
    "attention.b_c": "attention_output", "attention.kernel": "context", "fc.W": "fc", "fc.b": "fc",
    "feed_forward.W_1": "pre_activation", "feed_forward.b_1": "pre_activation",
    "feed_forward.W_2": "feed_forward", "feed_forward.b_2": "feed_forward",
    "embedding.E": "embedding", "embedding.bias": "embedding", "head.W": "logits",
    "head.b": "logits", "e_space": "tokens", "e_time": "tokens",
    "e_cls": "layers.0.space.norm_1.input", "cls": "layers.0.space.norm_1.input",
    "encoder.cls": "encoder.layers.0.norm_1.input",
    "encoder.positions": "encoder.layers.0.norm_1.input",
}  # fmt: skip


def shown(path):
    front, _, last = path.rpartition(".")
    if last in ("gamma", "beta"):
        return front
    ending = next(each for each in sorted(_SHOWS, key=len)[::-1] if path.endswith(each))
    block = path.removesuffix(ending)
    return f"{block}{_SHOWS[ending]}"


@pytest.mark.parametrize("model", MODELS)
def test_every_weight_that_is_off_shows_where_it_is_used(files, tmp_path, model, monkeypatch):
    """Each of our params in turn is changed by a millionth, and then the candidate compared."""
    monkeypatch.setattr("vtnp.verify.models.compare._EXPLAINED", 0)
    made, config = MODELS[model]
    params, _ = weights(model, config, "huggingface", files[model])
    run = [path for path, _ in tree_leaves(params) if model != "nystromformer" or "layers" in path]
    changed = [path for path in run if "layers.0" not in path]
    assert len(changed) >= 16
    for path in changed:
        other = moved(params, path)
        file = tmp_path / "other.safetensors"
        save(file, to_published(model, config, "huggingface", other))
        report = compared_with(made, file, files[model], model, config)
        assert diverging(report, "value")[0].removesuffix(".cls") == shown(path), path
        assert report.findings[0].title == titled(shown(path)), path


def moved(tree, path, front=""):
    """Return a tree with the numbers at one path, and no others, a millionth larger."""
    if isinstance(tree, dict):
        return {key: moved(x, path, f"{front}{key}.") for key, x in tree.items()}
    if isinstance(tree, list):
        return [moved(x, path, f"{front}{i}.") for i, x in enumerate(tree)]
    return tree * np.float32(1.000001) if f"{path}." == front else tree


def compared_with(made, ours, others, model, config):
    """Compare our model with weights of one file and a candidate with those of another."""

    def candidate(_):
        from safetensors.torch import load_file

        module = made()
        module.load_state_dict(load_file(others))
        return module

    return compare(model, config, ours, layout="huggingface", candidate=candidate)


def titled(name):
    block, _, quantity = name.removesuffix(".input").rpartition(".")
    of_cls = " of the class token" if name == "layers.0.space.norm_1.input" else ""
    input_of = "input of " if name.endswith(".input") else ""
    return f"{block or 'outside the blocks'}: {input_of}{quantity}{of_cls}"


def test_two_faults_are_both_named(files):
    """What follows from the first does not hide the second."""

    def plant(module):
        module.vivit.layers[0].layernorm_before.eps = 1e-3
        transposed(module.vivit.layers[1].attention.v_proj)

    report = compared(files, "vivit", plant)
    first, second = report.findings
    assert (first.title, second.title) == ("encoder.layers.0: norm_1", "encoder.layers.1: v")
    assert "After encoder.layers.0.norm_1, which diverges first" in second.explanation


def test_a_lost_residual_is_named_once(files):
    """The residual sum after it is wrong, and so are all later ones, which are not reported."""

    def plant(module):
        layer = module.vivit.layers[0]
        network = layer.mlp.forward
        layer.layernorm_after.register_forward_pre_hook(
            lambda _, inputs: setattr(layer, "residual", inputs[0])
        )
        layer.mlp.forward = lambda x: network(x) - layer.residual

    report = compared(files, "vivit", plant)
    titles = [finding.title for finding in report.findings]
    assert titles == ["encoder.layers.1: input of norm_1"]
    assert len(diverging(report, "isolated")) > 1


def test_positions_left_out_show_in_the_first_sum_alone(files):
    def plant(module):
        module.vivit.embeddings.position_embeddings.zero_()

    report = compared(files, "vivit", plant)
    assert [finding.title for finding in report.findings] == ["encoder.layers.0: input of norm_1"]
    assert "positions" in report.findings[0].explanation


def test_a_fault_in_the_class_token_alone(files):
    """Here its rows of the layer's norm have another gain."""

    def plant(module):
        norm = module.timesformer.encoder.layer[1].layernorm_after

        def louder(_, inputs, output):
            return torch.cat([2.0 * output[:, :1], output[:, 1:]], dim=1)

        norm.register_forward_hook(louder)

    report = compared(files, "timesformer", plant)
    titles = [finding.title for finding in report.findings]
    assert titles == ["layers.1: norm_2 of the class token"]


def test_settings_that_differ_are_found(files):
    """The released start value of the pseudo-inverse where ours has the paper's."""
    report = compare(
        "nystromformer",
        replace(NYSTROMFORMER, start="paper"),
        files["nystromformer"],
        layout="huggingface",
        candidate=nystromformer,
    )
    assert report.status == 1
    assert report.findings[0].mistakes == (("iterative-pinv", "start-over-the-batch"),)


# --- Names and activations of a user --------------------------------------------------------------

OWN_NAMES = """
# the attention of a layer
vivit.layers.{i}.attention.q_proj = encoder.layers.{i}.q : b n (heads d_h) -> b heads n d_h
vivit.layers.{i}.mlp.fc2:in       = encoder.layers.{i}.hidden
"""


def test_names_of_a_user(files, tmp_path):
    file = tmp_path / "names.txt"
    file.write_text(OWN_NAMES)
    report = compared(files, "vivit", names=file)
    assert report.status == 0
    names = [line.what for line in report.lines if line.kind == "value"]
    assert names == [f"encoder.layers.{i}.{each}" for i in (0, 1) for each in ("q", "hidden")]


def test_a_fault_where_nothing_is_exposed_parts_at_what_follows(files, tmp_path):
    file = tmp_path / "names.txt"
    file.write_text(OWN_NAMES)

    def plant(module):
        transposed(module.vivit.layers[0].attention.v_proj)

    report = compared(files, "vivit", plant, names=file)
    assert diverging(report, "value")[0] == "encoder.layers.0.hidden"
    assert report.findings[0].title == "encoder.layers.0: hidden"


def activations_of(files, clip, fault=None):
    """What a user would have written to a file: by our names, in our axes."""
    module = vivit().double().eval()
    if fault is not None:
        with torch.no_grad():
            fault(module)
    found = {"clip": clip}
    norm, head = module.vivit.layernorm, module.classifier
    norm.register_forward_hook(lambda _, x, y: found.update({"encoder.norm": y}))
    head.register_forward_hook(lambda _, x, y: found.update({"logits": y}))
    with torch.no_grad():
        module(torch.tensor(np.moveaxis(clip, -1, -3)))
    return {name: np.asarray(x) for name, x in found.items()}


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_file_of_activations(files, tmp_path, kind):
    clip = np.random.default_rng(5).standard_normal((1, 4, 8, 12, 3))
    write = {"npz": lambda f, a: np.savez(f, **a), "safetensors": save}[kind]

    def report_of(name, arrays):
        file = tmp_path / f"{name}.{kind}"
        write(file, arrays)
        return compare(
            "vivit", VIVIT, files["vivit"], layout="huggingface", activations=file, seed=0
        )

    right = report_of("right", activations_of(files, clip))
    assert right.status == 0
    assert {line.what for line in right.lines} == {"encoder.norm", "logits"}
    wrong = report_of("wrong", activations_of(files, clip, lambda m: m.classifier.bias.add_(1.0)))
    assert [finding.title for finding in wrong.findings] == ["outside the blocks: logits"]


# --- Axes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ("", lambda x: x),
        ("b n d -> n b d", lambda x: np.moveaxis(x, 0, 1)),
        ("b n[1:] d -> b n d", lambda x: x[:, 1:]),
        ("b n[0] d -> b 1 d", lambda x: x[:, :1]),
        ("(b t[mean]) n d -> b n d", lambda x: (x[:1] + x[1:2] + x[2:]) / 3.0),
        ("b (s t)[1:] d -> b t s d", lambda x: np.moveaxis(x[:, 1:].reshape(3, 2, 3, 6), 1, 2)),
        ("b n (three[2] heads) -> b heads n", lambda x: np.moveaxis(x[..., 4:], 1, 2)),
    ],
)
def test_axes_of_a_candidate(axes, expected):
    x = np.random.default_rng(0).standard_normal((3, 7, 6))
    sizes = {"b": 1 if "(b" in axes else 3, "t": 3, "s": 2, "heads": 2}
    np.testing.assert_array_equal(arranged(x, axes, sizes), expected(x))


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ("b n -> b n", "expected the axes 'b n', got 3 axes"),
        ("b n[9] d -> b n d", "expected one of mean, 0"),
        ("b n d -> b n e", "only on one side"),
        ("b (x y z) d -> b x y z d", "Could not infer"),
    ],
)
def test_axes_that_do_not_fit(axes, expected):
    with pytest.raises(ValueError, match=expected):
        arranged(np.zeros((3, 7, 6)), axes, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b", "line 1: expected MODULE = QUANTITY"),
        ("# nothing", "it has no line"),
        ("a:out = b", "'out' is neither 'in' nor a number"),
    ],
)
def test_tables_that_cannot_be_read(text, expected):
    with pytest.raises(UsageError, match=expected):
        read_table(text, "names.txt", NameTable(()))


# --- The command ----------------------------------------------------------------------------------

SETTINGS = "frames=4 image=8x12 patch=2x4x4 d=12 heads=2 d_f=20 layers=2 classes=5".split()
FACTORY = """
from tests.verify.test_compare import vivit


def right():
    return vivit()


def wrong():
    module = vivit()
    module.vivit.layers[1].layernorm_before.eps = 1e-5
    return module


def raising():
    module = vivit()
    module.vivit.layers[1].forward = None
    return module


def nothing():
    return 3


def unmade():
    raise OSError("no such device")
"""


@pytest.fixture
def command(files, tmp_path):
    """Return the words of a command, but for the factory and further ones."""
    (tmp_path / "factories.py").write_text(FACTORY)

    def words(factory, *others, layout="huggingface", model="vivit-b", weights=files["vivit"]):
        named = ["--candidate", f"{tmp_path / 'factories.py'}:{factory}"] if factory else []
        options = ["--weights", str(weights), "--layout-of-weights", layout]
        return ["compare", model, *options, *named, *SETTINGS, *others]

    return words


def test_command_of_a_right_candidate(command, capsys):
    assert main(command("right")) == 0
    expected = capsys.readouterr().out
    assert "right checked against vivit (torch): right" in expected
    assert "28 of 28 values hold; 28 of 28 isolated values hold" in expected


def test_command_of_a_wrong_candidate(command, capsys):
    assert main(command("wrong")) == 1
    expected = capsys.readouterr().out
    assert "encoder.layers.1: norm_1" in expected
    assert "eps-of-torch (layer-norm)" in expected


def test_command_for_a_program(command, capsys, tmp_path):
    import jsonschema

    out = tmp_path / "out.xml"
    assert main(command("wrong", "--json", "--junit", str(out))) == 1
    assert ET.parse(out).getroot().get("name") == "vtnp vivit"
    expected = json.loads(capsys.readouterr().out)
    schema = Path(__file__).parents[2] / "vtnp" / "verify" / "report.schema.json"
    jsonschema.validate(expected, json.loads(schema.read_text()))
    assert expected["verdict"] == "wrong"
    assert expected["findings"][0]["title"] == "encoder.layers.1: norm_1"


def complaint(capsys, words):
    assert main(words) == 2
    expected = capsys.readouterr()
    assert expected.out == ""
    assert expected.err.startswith("vtnp: ")
    assert expected.err.count("\n") == 1
    return expected.err


@pytest.mark.parametrize(
    ("factory", "others", "changes", "expected"),
    [
        ("right", [], {"model": "vivit-bb"}, "no model is called 'vivit-bb'; did you mean vivit-b"),
        (
            "right",
            [],
            {"layout": "torchvision"},
            "vivit has no layout 'torchvision'; it has official, huggingface,",
        ),
        ("right", ["depth=3"], {}, "has no field 'depth'; it has model, frames"),
        ("right", ["d=x"], {}, "expected an integer"),
        ("right", ["heads=5"], {}, "width 12 is not a multiple of 5 heads"),
        ("right", ["layers=3"], {}, "missing 'vivit.layers.2.layernorm_before.weight'"),
        ("right", [], {"weights": "absent.npz"}, "absent.npz"),
        ("right", ["--dtype", "int8"], {}, "dtype 'int8': expected one of float64"),
        ("right", ["--names", "absent.txt"], {}, "absent.txt: No such file"),
        ("right", ["--activations", "a.npz"], {}, "either a candidate or a file"),
        (None, [], {}, "either a candidate or a file"),
        ("raising", [], {}, "the candidate raised TypeError"),
        ("unmade", [], {}, "the candidate raised OSError: no such device"),
        ("nothing", [], {}, "the factory returned int, expected a torch.nn.Module"),
        ("absent", [], {}, "has no absent"),
    ],
)
def test_bad_requests_are_refused_in_one_line(command, capsys, factory, others, changes, expected):
    assert expected in complaint(capsys, command(factory, *others, **changes))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("layers.{i}.nothing = encoder.layers.{i}.q", "no name is of a module"),
        (
            "vivit.layers.{i}.mlp.fc1 = encoder.layers.{i}.wide",
            "no quantity 'encoder.layers.0.wide'",
        ),
        ("vivit.layers.{i}.mlp.fc1 = encoder.layers.{i}.q", "ours (2, 2, 13, 6)"),
        (
            "vivit.layers.{i}.mlp.fc1 = encoder.layers.{i}.pre_activation : b n -> b n",
            "expected the axes",
        ),
        ("call = body\nvivit.layernorm = encoder.norm", "no module 'body' to call"),
        ("input = b t -> t b\nvivit.layernorm = encoder.norm", "input = b t -> t b"),
    ],
)
def test_bad_names_are_refused_in_one_line(command, capsys, tmp_path, text, expected):
    file = tmp_path / "names.txt"
    file.write_text(text)
    assert expected in complaint(capsys, command("right", "--names", str(file)))


def test_a_model_without_published_weights_is_refused_in_one_line(files, capsys):
    words = ["compare", "deformable-tiny", "--weights", str(files["vivit"])]
    assert "no weights of deformable are published" in complaint(
        capsys, [*words, "--activations", "a.npz"]
    )


def test_a_model_of_other_weights_is_refused_in_one_line(command, files, capsys):
    words = command("right", weights=files["timesformer"])
    assert "does not fit vivit, layout huggingface" in complaint(capsys, words)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"logits": np.zeros((1, 5))}, "it has no 'clip'"),
        ({"clip": np.zeros((1, 4, 8, 8, 3))}, "'clip' has shape (1, 4, 8, 8, 3)"),
        ({"clip": np.zeros((1, 4, 8, 12, 3)), "logit": np.zeros((1, 5))}, "did you mean logits"),
        ({"clip": np.zeros((1, 4, 8, 12, 3)), "logits": np.zeros((1, 6))}, "ours (1, 5)"),
        ({"clip": np.zeros((1, 4, 8, 12, 3))}, "no name is of a module"),
    ],
)
def test_bad_activations(files, tmp_path, arrays, expected):
    file = tmp_path / "a.npz"
    np.savez(file, **arrays)
    with pytest.raises((UsageError, FileError)) as error:
        compare("vivit", VIVIT, files["vivit"], layout="huggingface", activations=file)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)
