"""`vtnp compare` with the names of released code: all quantities agree, and a fault is named.

The models are torch modules of those names with random weights; of pytorchvideo and torchvision
they are their own.
"""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.mvit.test_peers import CONFIG as CONFIG_OF_PYTORCHVIDEO
from tests.mvit.test_peers import (
    CONFIG_OF_TORCHVISION,
    logits_of,
    whole,
    whole_of_torchvision,
)
from tests.official.longnet import LongNet
from tests.official.motionformer import Motionformer
from tests.official.mvit import MViT
from tests.official.nystromformer import Nystromformer
from tests.official.parts import Module
from tests.support.peers import installed, needs
from tests.support.torch_sides import randomised
from vtnp._registry.errors import UsageError
from vtnp.checkpoints import save, to_published
from vtnp.longnet import Branch
from vtnp.models import longnet, motionformer, mvit, nystromformer, vivit
from vtnp.verify.models.activations import record
from vtnp.verify.models.compare import compare
from vtnp.verify.models.name_table import NameTable, read_table
from vtnp.verify.models.subjects import subject

torch = installed("torch")
pytorchvideo, torchvision = installed("pytorchvideo"), installed("torchvision")
pytestmark = needs(torch, "vtnp[peers]")

# More than one head, so that heads and their width cannot be taken for each other.
_MVIT = replace(mvit.CONFIGS["mvit-tiny"], channels=3, heads=3, stages=(1, 2, 1))
_MOTIONFORMER = replace(motionformer.CONFIGS["motionformer-tiny"], image=(8, 12), channels=2)
_NYSTROMFORMER = replace(
    nystromformer.CONFIGS["nystromformer-tiny"], frames=3, landmarks=6, kernel=5, start="original"
)
_LONGNET = replace(
    longnet.CONFIGS["longnet-tiny"], frames=3,
    branches=(Branch(6, 1), Branch(24, 2), Branch(48, 3)), offsets="torchscale",
)  # fmt: skip


class OfPyTorchVideo(Module):
    """Its modules, called one after the other as its own model does."""

    def __init__(self):
        super().__init__()
        for name, part in whole().items():
            self.add_module(name, part)

    def __getitem__(self, name):
        return getattr(self, name)

    def forward(self, clip):
        return logits_of(self, clip)


class Released(NamedTuple):
    """A model of a layout: how it is made, what it does not expose, and a fault in it."""

    model: str
    layout: str
    config: Any
    made: Any
    hidden: str
    fault: Any
    title: str
    why: str


def transposed(weight):
    with torch.no_grad():
        weight.copy_(weight.T.clone())


def without_class_token(attention, letter):
    """Its row is pooled away and comes back as zeros."""
    pooled = attention.pooled

    def other(which, x, grid):
        y, shrunk = pooled(which, x, grid)
        return (torch.cat([0 * y[:, :, :1], y[:, :, 1:]], dim=2) if which == letter else y), shrunk

    attention.pooled = other


def last(parameters):
    return list(parameters)[-1]


_OF_MOTIONFORMER = ", ".join(
    f"layers.{{i}}.{each}" for each in ("weights.cls", "weights", "trajectory.weights.cls")
)
_OF_NYSTROMFORMER = ", ".join(f"layers.{{i}}.weights{each}" for each in ("", ".2", ".3"))
RELEASED = {
    "motionformer": Released(
        "motionformer", "official", _MOTIONFORMER, partial(Motionformer, _MOTIONFORMER),
        _OF_MOTIONFORMER,
        lambda m: transposed(m.blocks[1].attn.proj_q.weight),
        "layers.1.trajectory: q", "its weight transposed",
    ),
    "motionformer-norm": Released(
        "motionformer", "official", _MOTIONFORMER, partial(Motionformer, _MOTIONFORMER),
        _OF_MOTIONFORMER,
        lambda m: setattr(m.blocks[0].norm2, "eps", 1e-5),
        "layers.0: norm_2", "eps-of-torch (layer-norm)",
    ),
    "mvit": Released(
        "mvit", "official", _MVIT, partial(MViT, _MVIT), "tokens, layers.{i}.weights",
        lambda m: setattr(m.blocks[2].attn.norm_k, "eps", 1e-3),
        "layers.2.attention: norm_k", "eps = 0.001",
    ),
    "mvit-widening": Released(
        "mvit", "official", _MVIT, partial(MViT, _MVIT), "tokens, layers.{i}.weights",
        lambda m: last(m.blocks[0].proj.parameters()).data.add_(1e-6),
        "layers.0: shortcut", "Look for a transposed weight, a missing bias",
    ),
    "nystromformer": Released(
        "nystromformer", "official", _NYSTROMFORMER, partial(Nystromformer, _NYSTROMFORMER),
        _OF_NYSTROMFORMER,
        lambda m: setattr(m.transformer_1.mha.attn, "steps", 3),
        "layers.1: context", "Look at how values are averaged",
    ),
    "longnet": Released(
        "longnet", "torchscale", _LONGNET, partial(LongNet, _LONGNET), "",
        lambda m: setattr(
            m.layers[1].self_attn, "config",
            replace(_LONGNET, branches=(*_LONGNET.branches[:2], Branch(48, 2))),
        ),
        "layers.1: context", "Look at how values are averaged",
    ),
}  # fmt: skip
PEERS = {
    "pytorchvideo": (
        pytorchvideo,
        Released(
            "mvit", "pytorchvideo", CONFIG_OF_PYTORCHVIDEO, OfPyTorchVideo, "layers.{i}.weights",
            lambda m: setattr(m.blocks[1].norm2, "eps", 1e-5),
            "layers.1: norm_2", "eps-of-torch (layer-norm)",
        ),
    ),
    "torchvision": (
        torchvision,
        Released(
            "mvit", "torchvision", CONFIG_OF_TORCHVISION, whole_of_torchvision,
            "layers.{i}.weights",
            lambda m: setattr(m.blocks[1].norm2, "eps", 1e-5),
            "layers.1: norm_2", "eps-of-torch (layer-norm)",
        ),
    ),
}  # fmt: skip


def compared(tmp_path, released, fault=None):
    """Compare a model with ours of its own weights, a fault planted behind their loading."""
    module = randomised(released.made())
    file = tmp_path / "weights.safetensors"
    save(file, {name: x.detach().numpy() for name, x in module.state_dict().items()})
    if fault is not None:
        fault(module)
    return compare(
        released.model, released.config, file, layout=released.layout, candidate=lambda _: module
    )


def assert_agrees(tmp_path, released):
    report = compared(tmp_path, released)
    assert [line for line in report.lines if not line.holds] == []
    assert report.findings == ()
    hidden = f"not exposed, and so not compared: {released.hidden}"
    assert report.notes == ((hidden,) if released.hidden else ())


def assert_fault_is_named(tmp_path, released):
    report = compared(tmp_path, released, released.fault)
    assert report.status == 1
    assert [finding.title for finding in report.findings] == [released.title]
    (finding,) = report.findings
    assert any(released.why in text for text in (finding.explanation, *finding.equivalents)), (
        finding
    )


@pytest.mark.parametrize("name", RELEASED)
def test_all_quantities_agree(tmp_path, name):
    assert_agrees(tmp_path, RELEASED[name])


@pytest.mark.parametrize("name", RELEASED)
def test_a_planted_fault_is_named_with_its_block_and_quantity(tmp_path, name):
    assert_fault_is_named(tmp_path, RELEASED[name])


def test_a_pooled_class_token(tmp_path):
    def fault(module):
        without_class_token(module.blocks[1].attn, "v")

    report = compared(tmp_path, RELEASED["mvit"], fault)
    titles = [finding.title for finding in report.findings]
    assert titles == ["layers.1: context"], titles


@pytest.mark.parametrize(
    "released",
    [
        pytest.param(released, marks=needs(package, name), id=name)
        for name, (package, released) in PEERS.items()
    ],
)
def test_peers_agree_and_a_fault_is_named(tmp_path, released):
    assert_agrees(tmp_path, released)
    assert_fault_is_named(tmp_path, released)


# --- Scenic: a file of what flax has captured -----------------------------------------------------

SCENIC = sorted(name for name in vivit.CONFIGS if name.startswith("vivit-tiny"))


def as_scenic_has(name, x, model):
    """One of our quantities under scenic's name, in its axes; None for what it does not show."""
    block, _, what = name.rpartition(".")
    words = {
        "q": "query", "k": "key", "v": "value", "attention_output": "out",
        "pre_activation": "Dense_0", "feed_forward": "Dense_1",
    }  # fmt: skip
    ends = {"embedding": "embedding", "logits": "output_projection"}
    if name in ends:
        b, t, s, d = x.shape if name == "embedding" else (0, 0, 0, 0)
        return ends[name], x.reshape(b, t, 2, s // 2, d) if name == "embedding" else x
    there = "TemporalTransformer" if name.startswith("encoder.time.") else "Transformer"
    flat = model == "factorised-self-attention"
    if what == "norm" and "space" not in block:
        return f"{there}/encoder_norm", x.reshape(len(x), -1, x.shape[-1])
    number = "".join(each for each in block if each.isdigit())
    if not number or "encoder.space" in block or what not in {*words, "norm_1", "norm_2"}:
        return None
    front = f"{there}/encoderblock_{number}"
    axis = block.rpartition(".")[2] if flat and block[-1] == "e" else ""
    if what in ("norm_1", "norm_2"):
        of_flat = f"LayerNorm_{axis or 'mlp'}"
        path = of_flat if flat else f"LayerNorm_{int(what[-1]) - 1}"
    elif what in ("pre_activation", "feed_forward"):
        path = f"MlpBlock{'' if flat else '_0'}/{words[what]}"
    else:
        path = f"MultiHeadDotProductAttention_{axis or 0}/{words[what]}"
    if what in "qkv":
        x = np.moveaxis(x, -3, -2)  # heads behind tokens
    if axis:  # the other axis goes into the batch
        x = x.reshape(-1, *x.shape[2:])
    elif flat:
        x = x.reshape(len(x), -1, x.shape[-1])
    elif model == "factorised-dot-product" and what in {"q", "k", "v", "attention_output"}:
        x = x.reshape(len(x), 4, -1, *x.shape[2:])  # frames apart again
    return f"{front}/{path}", x


@pytest.mark.parametrize("name", SCENIC)
def test_scenics_names(tmp_path, name):
    config = replace(vivit.CONFIGS[name], image=(8, 12), channels=3)
    ours, params = (
        subject("vivit", config), vivit.init(np.random.default_rng(0), config)
    )  # fmt: skip
    clip = np.random.default_rng(1).standard_normal((2, *ours.shape))
    seen = {"clip": clip}

    def note(path, x):
        found = as_scenic_has(path, x, config.model)
        if found is not None:
            seen[found[0]] = found[1]

    record(ours.run, params, clip, note)
    weights, file = tmp_path / "weights.npz", tmp_path / "seen.npz"
    np.savez(weights, **to_published("vivit", config, "official", params))
    np.savez(file, **seen)
    right = compare("vivit", config, weights, layout="official", activations=file)
    assert right.status == 0, right.failures()[:2]
    assert len(right.lines) == 2 * (len(seen) - 1)
    seen["output_projection"] = seen["output_projection"] + 1e-6
    np.savez(file, **seen)
    wrong = compare("vivit", config, weights, layout="official", activations=file)
    assert [finding.title for finding in wrong.findings] == ["outside the blocks: logits"]


# --- Tables ---------------------------------------------------------------------------------------


def test_a_candidate_that_takes_a_list():
    listed = read_table("input = [a b -> b a]\nx = y", "names.txt", NameTable(()))
    assert (listed.input, listed.in_list) == ("a b -> b a", True)
    # A user's table goes on from the default one.
    assert read_table("x = y", "names.txt", listed).in_list
    bare = read_table("input = a b -> b a c\nx = y", "names.txt", listed)
    assert not bare.in_list


def test_layers_alone_want_tokens(tmp_path):
    released = RELEASED["longnet"]
    module = randomised(released.made())
    file = tmp_path / "weights.safetensors"
    save(file, {name: x.detach().numpy() for name, x in module.state_dict().items()})
    other = replace(released.config, d=12)
    with pytest.raises(UsageError, match="does not fit longnet, layout torchscale"):
        compare("longnet", other, file, layout="torchscale", candidate=lambda _: module)
