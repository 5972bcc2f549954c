"""Right implementations, other people's too, must not be found wrong, nor come near their bounds.

Of the cases that hypothesis draws for each formula, --deep tries more. VTNP_HYPOTHESIS=deep tries
more than a thousand candidates: every formula, on both libraries, in all dtypes.
"""

import os

import pytest

import vtnp
from tests.support.peers import installed, needs
from vtnp._registry.spec import registry
from vtnp.verify import check

torch, transformers = installed("torch"), installed("transformers")
IDS = [each.id for each in vtnp.formulas()]
DEEP = os.environ.get("VTNP_HYPOTHESIS") == "deep"
SEEDS = range(6 if DEEP else 1)
BOTH = ("float64", "float32")
DTYPES = () if DEEP else BOTH
EXAMPLES = 60 if DEEP else 8
# Number by number hypothesis draws slowly; the first case that it draws is all zeros.
MANY = pytest.param(EXAMPLES, marks=pytest.mark.deep)
ON_NUMPY, ON_TORCH = ([EXAMPLES], [EXAMPLES]) if DEEP else ([3, MANY], [1, MANY])
WELL_WITHIN = 0.75


def assert_right(candidate, id, *, record_property=None, examples=EXAMPLES, **options):
    report = check(candidate, id, examples=examples, **options)
    assert report.right, [(line.what, line.case, line.note) for line in report.failures()[:3]]
    assert report.findings == ()
    ratios = [line.error / line.bound for line in report.lines if line.bound]
    closest = max(ratios, default=0.0)
    assert closest <= WELL_WITHIN
    if record_property is not None:
        record_property("closest", closest)
    return report


@pytest.mark.parametrize("examples", ON_NUMPY)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("id", IDS)
def test_formula_itself_on_numpy(id, seed, examples, record_property):
    options = {"library": "numpy", "seed": seed, "dtypes": DTYPES, "gradients": DEEP}
    options |= {"examples": examples, "record_property": record_property}
    assert_right(registry[id].function, id, **options)


@needs(torch, "vtnp[peers]")
@pytest.mark.parametrize("examples", ON_TORCH)
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("id", IDS)
def test_formula_itself_on_torch(id, seed, examples, record_property):
    """Where sums have another order, and exponentials come from another library."""
    dtypes = DTYPES and DTYPES[seed % 2 :][:1]
    options = {"library": "torch", "seed": seed, "dtypes": dtypes, "gradients": DEEP}
    options |= {"examples": examples, "record_property": record_property}
    assert_right(registry[id].function, id, **options)


@needs(torch, "vtnp[peers]")
@pytest.mark.parametrize("seed", [2, 3])
def test_choices_among_digits(seed):
    """Among them two cosines of 0, one of which is 0 but for how it has been rounded."""
    formula = registry["orthogonal-prototypes"].function
    report = check(formula, "orthogonal-prototypes", library="torch", seed=seed, examples=60)
    assert report.right, report.failures()[:1]


# --- torch's own ----------------------------------------------------------------------------------


@needs(torch, "vtnp[peers]")
def test_scaled_dot_product_attention():
    def attend(query, key, value, mask=None):
        return torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    report = assert_right(attend, "attention")
    assert report.notes == ("not checked: scale, for which the candidate has no parameter",)


@needs(torch, "vtnp[peers]")
def test_its_own_signature():
    attend = torch.nn.functional.scaled_dot_product_attention
    assert_right(attend, "attention", library="torch", dtypes=("float32",))


@needs(torch, "vtnp[peers]")
def test_layer_norm():
    def normalised(x, gamma, beta, eps):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], gamma, beta, eps)

    assert_right(normalised, "layer-norm")


@needs(torch, "vtnp[peers]")
def test_gelu_and_softmax():
    def gelu(x):
        return torch.nn.functional.gelu(x)

    def softmax(x):
        return torch.softmax(x, dim=-1)

    assert_right(gelu, "gelu")
    assert_right(softmax, "softmax")


HEADS, D_H, D_F = 3, 4, 20
D = HEADS * D_H
LANDMARKS = 3
SIZES = {"heads": HEADS, "d": D, "d_h": D_H, "d_v": D_H}


def in_rows(W):
    """heads d d_h -> as torch.nn.Linear has it, head by head."""
    return W.permute(0, 2, 1).reshape(-1, W.shape[1])


def projections(weights, prefix=""):
    """The weights of attention as torch.nn.MultiheadAttention names them."""
    W_q, W_k, W_v, W_c = (weights[f"W_{each}"] for each in "qkvc")
    zeros = W_c.new_zeros
    biases = [weights.get(f"b_{each}") for each in "qkv"]
    joined = [zeros(D) if b is None else b.reshape(-1) for b in biases]
    b_c = weights.get("b_c")
    return {
        f"{prefix}in_proj_weight": torch.cat([in_rows(W) for W in (W_q, W_k, W_v)]),
        f"{prefix}in_proj_bias": torch.cat(joined),
        f"{prefix}out_proj.weight": W_c.reshape(-1, W_c.shape[-1]).T,
        f"{prefix}out_proj.bias": zeros(D) if b_c is None else b_c,
    }


def forbidden(mask, x):
    """There, True means may not; one mask for each row and head."""
    if mask is None:
        return None
    n = x.shape[-2]
    rows = mask.expand((*x.shape[:-2], n, n)).reshape(-1, 1, n, n)
    return ~rows.expand(-1, HEADS, n, n).reshape(-1, n, n)


@needs(torch, "vtnp[peers]")
def test_multihead_attention():
    module = torch.nn.MultiheadAttention(D, HEADS, batch_first=True)

    def attend(x, memory, W_q, W_k, W_v, W_c, b_q=None, b_k=None, b_v=None, b_c=None):
        weights = {"W_q": W_q, "W_k": W_k, "W_v": W_v, "W_c": W_c}
        weights |= {"b_q": b_q, "b_k": b_k, "b_v": b_v, "b_c": b_c}
        rows, read = (y.reshape((-1, *y.shape[-2:])) for y in (x, memory))
        arguments = (rows, read, read)
        y, _ = torch.func.functional_call(
            module, projections(weights), arguments, {"need_weights": False}
        )
        return y.reshape(x.shape)

    assert_right(attend, "cross-attention", library="torch", sizes=SIZES, dtypes=BOTH)


@needs(torch, "vtnp[peers]")
@pytest.mark.parametrize("id", ["encoder-layer", "pre-norm-layer"])
def test_transformer_encoder_layer(id):
    options = {"dim_feedforward": D_F, "dropout": 0.0, "batch_first": True}
    if id == "pre-norm-layer":
        options |= {"norm_first": True, "activation": "gelu"}
    layer = torch.nn.TransformerEncoderLayer(D, HEADS, **options)

    def through(x, params, eps, mask=None):
        layer.norm1.eps = layer.norm2.eps = eps
        network, zeros = params["feed_forward"], x.new_zeros
        state = projections(params["attention"], "self_attn.") | {
            "linear1.weight": network["W_1"].T,
            "linear1.bias": network.get("b_1", zeros(D_F)),
            "linear2.weight": network["W_2"].T,
            "linear2.bias": network.get("b_2", zeros(D)),
        }
        for i in (1, 2):
            state[f"norm{i}.weight"] = params[f"norm_{i}"]["gamma"]
            state[f"norm{i}.bias"] = params[f"norm_{i}"]["beta"]
        rows = x.reshape((-1, *x.shape[-2:]))
        hidden = {"src_mask": forbidden(mask, x)}
        return torch.func.functional_call(layer, state, (rows,), hidden).reshape(x.shape)

    assert_right(through, id, library="torch", sizes=SIZES | {"d_f": D_F}, dtypes=BOTH)


# --- HuggingFace ----------------------------------------------------------------------------------


@needs(torch, "vtnp[peers]")
@needs(transformers, "vtnp[peers]")
def test_timesformer_attention():
    from transformers.models.timesformer import modeling_timesformer as modeling

    options = {"hidden_size": D, "num_attention_heads": HEADS}
    module = modeling.TimesformerSelfAttention(transformers.TimesformerConfig(**options)).eval()

    def attend(x, W_q, W_k, W_v, W_c, b_q=None, b_k=None, b_v=None):
        weights = {"W_q": W_q, "W_k": W_k, "W_v": W_v, "W_c": W_c}
        weights |= {"b_q": b_q, "b_k": b_k, "b_v": b_v}
        state = projections(weights)
        fused = {"qkv.weight": state["in_proj_weight"], "qkv.bias": state["in_proj_bias"]}
        rows = x.reshape((-1, *x.shape[-2:]))
        y = torch.func.functional_call(module, fused, (rows,))[0]
        return (y @ state["out_proj.weight"].T).reshape(x.shape)

    report = assert_right(
        attend, "multi-head-self-attention", library="torch", sizes=SIZES, dtypes=BOTH
    )
    assert report.notes == ("not checked: mask, b_c, for which the candidate has no parameter",)


@needs(torch, "vtnp[peers]")
@needs(transformers, "vtnp[peers]")
def test_vivit_attention():
    from transformers.models.vivit import modeling_vivit as modeling

    still = torch.nn.Module().eval()

    def attend(Q, K, V):
        Q, K, V = (x.reshape((-1, 1, *x.shape[-2:])) for x in (Q, K, V))
        y, _ = modeling.eager_attention_forward(still, Q, K, V, None, Q.shape[-1] ** -0.5)
        return y[:, :, 0]

    def in_batches(Q, K, V):
        return attend(Q, K, V).reshape((*Q.shape[:-1], V.shape[-1]))

    # It has the softmax in single precision, whatever its inputs are.
    assert_right(in_batches, "attention", library="torch", dtypes=("float32",))


@needs(torch, "vtnp[peers]")
@needs(transformers, "vtnp[peers]")
def test_nystromformer_attention():
    from transformers.models.nystromformer import modeling_nystromformer as modeling

    def attend(x, W_q, W_k, W_v, W_c, kernel, b_q=None, b_k=None, b_v=None):
        config = transformers.NystromformerConfig(
            hidden_size=D,
            num_attention_heads=HEADS,
            num_landmarks=LANDMARKS,
            segment_means_seq_len=x.shape[-2],
            conv_kernel_size=kernel.shape[-1],
        )
        module = modeling.NystromformerSelfAttention(config).eval()
        state = {"conv.weight": kernel[:, None, :, None]}
        for word, W, b in (("query", W_q, b_q), ("key", W_k, b_k), ("value", W_v, b_v)):
            state[f"{word}.weight"] = in_rows(W)
            state[f"{word}.bias"] = x.new_zeros(D) if b is None else b.reshape(-1)
        rows = x.reshape((-1, *x.shape[-2:]))
        y = torch.func.functional_call(module, state, (rows,))[0]
        return (y @ W_c.reshape(-1, D)).reshape(x.shape)

    fixed = {
        "sizes": SIZES | {"n": 4 * LANDMARKS},
        "options": {
            "landmarks": LANDMARKS, "pinv": "iterative", "iterations": 6, "start": "original"
        },
    }  # fmt: skip
    report = assert_right(attend, "nystrom-self-attention", library="torch", dtypes=BOTH, **fixed)
    assert "never left out: kernel, which the candidate requires" in report.notes
    assert any(line.kind == "gradient" for line in report.lines)
