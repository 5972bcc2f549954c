"""What a check finds, how it reports it, and how it copes with candidates that misbehave."""

import json
import math
import os
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest

import vtnp
from tests.support.peers import installed, needs
from vtnp._registry.errors import UsageError
from vtnp.cli import main
from vtnp.verify import check
from vtnp.verify import report as reports
from vtnp.verify.functions.time_limit import check_in_process
from vtnp.verify.junit import as_xml
from vtnp.verify.loading import load
from vtnp.verify.text import print_report

torch, jax = installed("torch"), installed("jax")
FAST = {"dtypes": ("float64",), "gradients": False, "examples": 0}
WAVES = ("float64", "float32")


def titles(report):
    return [finding.title for finding in report.findings]


def softmax(x):
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def weights(Q, K):
    return softmax(Q @ np.swapaxes(K, -1, -2) / math.sqrt(Q.shape[-1]))


# --- Layouts, names and parameters ----------------------------------------------------------------

LAYOUT = "Q=b h (t s) d; K=b h (t s) d; V=b h (t s) d_v; result=b h t s d_v t'"


def trajectory_tokens(q, k, v, *, t):
    """In another layout, as a port may have it; the result's last axes are another way round."""
    frames = [y.reshape(*y.shape[:2], t, -1, y.shape[-1]) for y in (q, k, v)]
    alpha = softmax(np.einsum("bhtsd,bhuzd->bhtsuz", *frames[:2]) / math.sqrt(q.shape[-1]))
    return np.einsum("bhtsuz,bhuzd->bhtsdu", alpha, frames[2])


def test_layout_of_arguments_and_result():
    report = check(trajectory_tokens, "eq2", layout=LAYOUT, sizes={"t": 3}, **FAST)
    assert report.right, report.failures()[:2]
    assert {line.case.split(", ")[2] for line in report.lines if line.kind == "value"} == {
        "batch 2x3"
    }


def test_layout_that_is_not_the_candidates():
    report = check(trajectory_tokens, "eq2", layout=LAYOUT.replace("d_v t'", "t' d_v"), **FAST)
    assert not report.right
    assert any("shape" in line.note or "layout" in line.note for line in report.failures())


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("Q", "ARRAY=PATTERN"),
        ("W=n d", "layout of W: the arrays are Q, K"),
        ("Q=b n", "expected each axis of"),
        ("Q=b n n d", "expected each axis of"),
    ],
)
def test_layout_that_makes_no_sense(layout, said):
    assert_one_line(said, lambda: check(weights, "attention-weights", layout=layout, **FAST))


def assert_one_line(said, call):
    with pytest.raises(UsageError) as refused:
        call()
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_names_and_extra():
    def attends(b, a, temperature):
        return weights(a / temperature, b)

    names = {"Q": "a", "K": "b"}
    report = check(attends, "attention-weights", names=names, extra={"temperature": 1.0}, **FAST)
    assert report.right
    assert "mask" in report.notes[0]
    assert not check(attends, "attention-weights", extra={"temperature": 1.0}, **FAST).right


SIGNATURES = {
    "other names": lambda query, key, dropout=0.0: weights(query, key),
    "in order": lambda left, right: weights(Q=left, K=right),
    "by position only": lambda left, right, /: weights(left, right),
    "star": lambda *both: weights(both[0], both[1]),
    "double star": lambda **both: weights(both["Q"], both["K"]),
    "one by name": lambda key, **rest: weights(rest["Q"], key),
}


@pytest.mark.parametrize("way", SIGNATURES)
def test_where_arguments_go(way):
    assert check(SIGNATURES[way], "attention-weights", **FAST).right


def test_c_functions_tell_no_signature():
    report = check(np.positive, "relu", **FAST)
    assert not report.right
    assert check(np.positive, "patch-tokens", **FAST).status == reports.NOT_RUN


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"names": {"x": "y"}}, "attention-weights has no argument x; it has Q, K, mask, scale"),
        ({"examples": -1}, "examples -1: expected a number >= 0"),
        ({"library": "fortran"}, "unknown library 'fortran'"),
        ({"dtypes": ("float8",)}, "numpy is tried with float64, float32, float16"),
    ],
)
def test_options_that_make_no_sense(options, said):
    assert_one_line(said, lambda: check(weights, "attention-weights", **options))


def test_an_argument_without_a_parameter():
    assert_one_line("needs K", lambda: check(lambda Q: Q, "attention-weights"))


def test_unknown_formula():
    with pytest.raises(LookupError, match="softmax"):
        check(softmax, "sofmax")


@needs(torch, "vtnp[peers]")
def test_library_of_what_it_names():
    def relu(x):
        return torch.relu(x)

    class Module(torch.nn.Module):
        def forward(self, x):
            return x.clamp(min=0.0)

    assert check(relu, "relu", **FAST).library == "torch"
    assert check(Module(), "relu", **FAST).library == "torch"
    assert check(softmax, "softmax", **FAST).library == "numpy"


def test_library_of_a_candidate_that_encloses_an_array():
    factors = np.ones(3)

    def relu(x):
        return np.maximum(x, 0.0) * factors[0]

    assert check(relu, "relu", **FAST).library == "numpy"


# --- What a candidate has fixed -------------------------------------------------------------------


def normalised(x, gamma, beta):
    """With an eps of its own, and for one width alone."""
    assert x.shape[-1] == 6, "for width 6"
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-3)
    return centred / spread * gamma + beta


def test_options_and_sizes_that_a_candidate_has_fixed():
    fixed = {"options": {"eps": 1e-3}, "sizes": {"d": 6}}
    report = check(normalised, "layer-norm", **FAST, **fixed)
    assert report.right, report.failures()[:2]
    assert report.notes == ("checked only with eps=0.001",)
    assert {"law", "special"} <= {line.kind for line in report.lines}
    other = check(normalised, "layer-norm", **FAST, **fixed | {"options": {"eps": 1e-5}})
    assert not other.right
    said = "pass names={'eps': ...}, or options={'eps': ...} where it is fixed"
    assert_one_line(said, lambda: check(normalised, "layer-norm", **FAST, sizes={"d": 6}))


def test_laws_that_change_a_fixed_option_are_not_checked():
    """That of no iterations is checked where the candidate takes a number, not where it has six."""

    def six(A):
        return vtnp.nystromformer.iterative_pinv(A, iterations=6, start="exact")

    def any_number(A, iterations):
        return vtnp.nystromformer.iterative_pinv(A, iterations=iterations, start="exact")

    start = {"options": {"start": "exact"}}
    flexible = check(any_number, "iterative-pinv", **FAST, **start)
    both = {"options": {"start": "exact", "iterations": 6}}
    fixed = check(six, "iterative-pinv", **FAST, **both)
    assert flexible.right, flexible.failures()[:2]
    assert fixed.right, fixed.failures()[:2]
    checked = [
        {line.what for line in each.lines if line.kind != "value"} for each in (flexible, fixed)
    ]
    assert checked[1] < checked[0]


def test_a_fixed_option_is_passed_where_there_is_a_parameter_for_it():
    seen = set()

    def gelu(x, approximate="none"):
        seen.add(approximate)
        return vtnp.encoder.gelu(x, approximate=approximate)

    assert check(gelu, "gelu", **FAST, options={"approximate": "tanh"}).right
    assert seen == {"tanh"}


def test_sizes_of_batch_axes_by_the_names_of_the_layout():
    def attends(Q, K):
        assert Q.shape[1] == 5, "for 5 heads"
        return weights(Q, K)

    layout = "Q=b h n d_k; K=b h m d_k; result=b h n m"
    assert check(attends, "attention-weights", layout=layout, sizes={"h": 5}, **FAST).right
    assert not check(attends, "attention-weights", layout=layout, **FAST).right


def test_builders_keep_to_sizes_that_are_fixed():
    seen = set()

    def attends(z, cls, params):
        seen.add(params["attention"]["W_q"].shape[0])
        return vtnp.motionformer.trajectory_self_attention(z, cls, params)

    fixed = {"sizes": {"heads": 3}, "options": {"value_projection": False, "prototypes": None}}
    report = check(attends, "trajectory-self-attention", **FAST, **fixed)
    assert report.right, report.failures()[:2]
    assert seen == {3}


def test_what_a_candidate_requires_is_always_passed():
    def attends(Q, K, mask):
        return vtnp.encoder.attention_weights(Q, K, mask=np.logical_and(mask, True))

    report = check(attends, "attention-weights", **FAST)
    assert report.right, report.failures()[:2]
    assert "never left out: mask, which the candidate requires" in report.notes


def test_a_default_of_the_formula_is_passed_to_a_candidate_that_has_none():
    def inverse(A, iterations, start):
        assert iterations is not None
        return vtnp.nystromformer.iterative_pinv(A, iterations=iterations, start=start)

    assert check(inverse, "iterative-pinv", **FAST).right


@pytest.mark.parametrize(
    ("fixed", "said"),
    [
        ({"options": {"epsilon": 1e-5}}, "layer-norm has no option epsilon; it has eps"),
        ({"options": {"x": 1e-5}}, "layer-norm has no option x; it has eps"),
        (
            {"options": {"eps": "small"}},
            "no case of layer-norm has these sizes and options: layer-norm",
        ),
        ({"sizes": {"width": 6}}, "layer-norm has no axis width; it has d"),
    ],
)
def test_what_cannot_be_fixed(fixed, said):
    assert_one_line(said, lambda: check(normalised, "layer-norm", **FAST, **fixed))


# --- Cases that hypothesis draws ------------------------------------------------------------------


DRAWN = FAST | {"examples": 60}


def test_a_failure_that_no_planned_case_shows():
    """It halves rows in which some scores, but not all, are exactly the same."""

    def halves_ties(x):
        y = softmax(x)
        steps = np.diff(np.sort(x, axis=-1), axis=-1)
        tied = (steps == 0.0).any(axis=-1) & (steps != 0.0).any(axis=-1)
        return np.where(tied[..., None], 0.5 * y, y)

    assert check(halves_ties, "softmax", **FAST).right
    report = check(halves_ties, "softmax", **DRAWN)
    assert not report.right
    (failed,) = (line for line in report.failures() if line.kind == "value")
    assert failed.case.startswith("drawn sizes")
    assert re.search(r"x=np.array\(\[(-?[01]\.0, ){2}-?[01]\.0\]\)", report.example)


def test_the_example_is_shrunk():
    def joint(Q, K, V):
        """One softmax over the places of all frames."""
        alpha = softmax(np.einsum("...tsd,...uzd->...tsuz", Q, K).reshape(*Q.shape[:-1], -1))
        alpha = alpha.reshape(*Q.shape[:-1], *Q.shape[-3:-1])
        return np.einsum("...tsuz,...uzd->...tsud", alpha, V)

    report = check(joint, "trajectory-tokens", **DRAWN)
    written = report.example.partition("# expected result:")[0]
    digits = re.findall(r"-?\d\.\d+", written)
    assert len(digits) <= 9
    assert set(digits) <= {"0.0", "1.0", "-1.0"}


def test_drawn_cases_are_the_same_for_the_same_seed_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, again = (check(sigmoid, "softmax", seed=5, **DRAWN) for _ in range(2))
    assert first == again
    assert any(line.case.startswith("drawn sizes") for line in first.failures())
    assert list(tmp_path.iterdir()) == []


def test_drawn_sizes_that_a_candidate_does_not_support():
    def for_two_or_more(x):
        if x.shape[-1] == 4:
            raise RuntimeError("not four")
        return softmax(x)

    report = check(for_two_or_more, "softmax", **DRAWN)
    (failed,) = report.failures()
    assert failed.note == "raised RuntimeError: not four"
    assert failed.case.startswith("drawn sizes")


def test_the_search_copes_with_results_that_differ_from_call_to_call():
    def lucky(x, calls=[]):  # noqa: B006  (it remembers)
        calls.append(x)
        return softmax(x) if len(calls) % 3 else sigmoid(x)

    report = check(lucky, "softmax", **DRAWN)
    assert not report.right


# --- Half precision -------------------------------------------------------------------------------


def attention_in(dtype, scaled):
    def attends(Q, K, V):
        if str(Q.dtype) != f"torch.{dtype}":
            raise TypeError(f"{dtype} only")
        scale = Q.shape[-1] ** -0.5 if scaled else 1.0
        weights = torch.softmax(Q.float() @ K.float().mT * scale, dim=-1)
        return weights.to(Q.dtype) @ V

    return attends


@needs(torch, "vtnp[peers]")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_candidate_of_half_precision_alone(dtype):
    right = check(attention_in(dtype, scaled=True), "attention", library="torch")
    assert right.right, right.failures()[:2]
    assert sum(line.kind == "value" for line in right.lines) >= 10
    wrong = check(attention_in(dtype, scaled=False), "attention", library="torch")
    assert wrong.findings[0].title == "no-scale (attention-weights)"
    assert wrong.findings[0].equivalents == ()


# --- What is found without a name -----------------------------------------------------------------


def test_right_for_equal_sizes_only():
    def square(Q, K):
        alpha = weights(Q, K)
        return alpha if alpha.shape[-1] == alpha.shape[-2] else 0.5 * alpha

    found = titles(check(square, "attention-weights", **FAST))
    assert any(title.startswith("right only for all sizes 1, equal sizes") for title in found), (
        found
    )


def test_right_in_head_0_only():
    def projection(x, W):
        y = np.moveaxis(np.tensordot(x, W, axes=(-1, -2)), -2, -3)
        y[..., 1:, :, :] *= 1.01
        return y

    found = titles(check(projection, "qkv-projection", **FAST))
    assert "right only in head 0" in found


def test_computed_in_a_lower_precision():
    def low(Q, K):
        return weights(Q.astype(np.float16), K.astype(np.float16)).astype(Q.dtype)

    found = titles(check(low, "attention-weights", dtypes=WAVES, gradients=False))
    assert "computed in float16" in found


def test_a_part_computed_in_a_lower_precision():
    def low(Q, K, V):
        return weights(Q, K).astype(np.float16).astype(V.dtype) @ V

    found = titles(check(low, "attention", dtypes=WAVES, gradients=False))
    assert "computed in float16" in found


def test_nearly_right_is_not_taken_for_a_lower_precision():
    def bent(Q, K):
        return weights(1.0005 * Q, K)

    found = titles(check(bent, "attention-weights", dtypes=WAVES, gradients=False))
    assert "slightly off" in found
    assert not any("computed in" in title for title in found)


def test_a_mistake_and_a_lower_precision():
    def unscaled(Q, K):
        return softmax(Q.astype(np.float32) @ np.swapaxes(K, -1, -2).astype(np.float32))

    def back(Q, K):
        return unscaled(Q, K).astype(Q.dtype)

    found = check(back, "attention-weights", dtypes=WAVES, gradients=False, examples=0).findings
    assert found[0].title == "no-scale (attention-weights), computed in float32"
    assert found[0].mistakes == (("attention-weights", "no-scale"),)


def test_nearly_a_mistake_is_no_mistake_in_a_lower_precision():
    def bent(Q, K):
        return 1.0005 * softmax(Q @ np.swapaxes(K, -1, -2))

    found = check(bent, "attention-weights", dtypes=WAVES, gradients=False, examples=0).findings
    assert not any(finding.mistakes for finding in found)


def test_a_mistake_and_swapped_axes():
    def turned(Q, K):
        return np.swapaxes(softmax(Q @ np.swapaxes(K, -1, -2)), -1, -2)

    found = check(turned, "attention-weights", **FAST).findings
    assert found[0].title == "no-scale (attention-weights), axes -2 and -1 of result 0 swapped"
    assert found[0].equivalents == ()


def test_overflow():
    def unshifted(x):
        return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)

    found = titles(check(unshifted, "softmax", **FAST))
    assert found[0] == "no-shift (softmax)"
    assert "exponentials overflow" in found


def test_axes_swapped():
    def turned(Q, K):
        return np.swapaxes(weights(Q, K), -1, -2)

    report = check(turned, "attention-weights", **FAST)
    assert any("shape" in line.note for line in report.failures())
    assert titles(report)[0] == "axes -2 and -1 of result 0 swapped"


# --- Contract -------------------------------------------------------------------------------------


def test_arguments_changed_in_place():
    def careless(x):
        np.maximum(x, 0.0, out=x)
        return x

    assert "changes its argument x in place" in titles(check(careless, "relu", **FAST))


def test_dtype_changed():
    def wide(x):
        return np.maximum(x, 0.0).astype(np.float64)

    report = check(wide, "relu", dtypes=("float32",))
    assert "returns float64 for float32" in titles(report)


def test_two_calls_differ():
    def trembling(x, calls=[]):  # noqa: B006  (it remembers)
        calls.append(x)
        return np.maximum(x, 0.0) * (1.0 + 1e-16 * (len(calls) % 2) * 4.0)

    failed = {(line.kind, line.what) for line in check(trembling, "relu", **FAST).failures()}
    assert ("contract", "deterministic") in failed
    assert not any(kind == "value" for kind, _ in failed)


# --- Candidates that fail -------------------------------------------------------------------------


def raises(x):
    raise RuntimeError(f"out of luck\nwith {x.shape}")


def leaves_python(x):
    raise SystemExit(3)


FAILING = {
    "raises": (raises, "raised RuntimeError: out of luck"),
    "exits": (leaves_python, "raised SystemExit: 3"),
    "complex": (lambda x: x + 0j, "returned complex128, expected real numbers"),
    "objects": (lambda x: x.astype(object), "returned object, expected real numbers"),
    "words": (lambda x: x.astype(str), "expected real numbers"),
    "masked": (lambda x: np.ma.masked_less(x, 0.0), "returned MaskedArray, expected a NumPy array"),
    "integers": (lambda x: np.zeros(x.shape, int), "returns int64 for float64"),
    "empty": (lambda x: x[..., :0], "shape"),
    "nothing": (lambda x: None, "returned NoneType"),
    "two": (lambda x: (x, x), "returned 2 results, expected 1"),
    "no array": (lambda x: [1.0], "returned float"),
    "another shape": (lambda x: x[..., :1], "shape"),
}


@pytest.mark.parametrize("way", FAILING)
def test_no_result(way):
    candidate, said = FAILING[way]
    report = check(candidate, "relu", library="numpy", **FAST)
    assert_said(report, said)


def assert_said(report, said):
    """Results that can be judged are wrong; without any there is no verdict."""
    if report.status == reports.WRONG:
        assert any(said in line.note for line in report.failures()), report.failures()[:1]
    else:
        assert report.status == reports.NOT_RUN
        assert report.lines == ()
        assert report.notes[0].startswith("no verdict: no call worked; the first one ")
        assert said in report.notes[0]


@needs(torch, "vtnp[peers]")
@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda x: x.to("meta"), "on the meta device, which has no numbers"),
        (lambda x: x.to_sparse(), "returned what cannot be read: TypeError"),
        (lambda x: x + 0j, "returned complex128, expected real numbers"),
        (lambda x: x.bfloat16(), "returns bfloat16 for float64"),
    ],
)
def test_tensors_that_are_no_result(returned, said):
    report = check(lambda x: returned(torch.relu(x)), "relu", library="torch", **FAST)
    assert_said(report, said)


@needs(torch, "vtnp[peers]")
def test_views_that_numpy_has_not():
    def relu(x):
        return torch._neg_view(-torch.relu(x))

    assert check(relu, "relu", library="torch", **FAST).right


def test_nan():
    report = check(lambda x: np.maximum(x, 0.0) * math.nan, "relu", **FAST)
    assert report.status == reports.WRONG
    assert math.isinf(report.failures()[0].error)


def test_float32_alone_is_a_note():
    def single(x):
        if x.dtype != np.float32:
            raise TypeError("float32 only")
        return np.maximum(x, np.float32(0.0))

    report = check(single, "relu")
    assert report.right
    assert "not supported: dtype float64 (raised TypeError: float32 only)" in report.notes
    assert "laws were not checked: the candidate does not support float64" in report.notes


def test_same_seed_same_report():
    first, again = (check(sigmoid, "softmax", seed=3, **FAST) for _ in range(2))
    assert first == again
    assert first != check(sigmoid, "softmax", seed=4, **FAST)


def test_each_case_is_announced_before_the_candidate_is_called():
    cases = []
    check(softmax, "softmax", on_case=cases.append, **FAST)
    assert cases[0] == "distinct sizes, typical values, float64, seed 0"
    assert cases[-1] == "laws"


# --- Gradients ------------------------------------------------------------------------------------


@needs(torch, "vtnp[peers]")
def test_gradient_stopped():
    def stopped(Q, K, V):
        alpha = torch.softmax(Q @ K.mT / math.sqrt(Q.shape[-1]), dim=-1)
        return alpha.detach() @ V

    report = check(stopped, "attention", dtypes=WAVES)
    assert {line.kind for line in report.failures()} == {"gradient"}
    assert "gradient stopped at attention-weights" in titles(report)


@needs(torch, "vtnp[peers]")
def test_no_gradient_at_all():
    def cut(x):
        with torch.no_grad():
            return torch.relu(x)

    report = check(cut, "relu", dtypes=("float64",))
    assert not report.right
    assert "no gradient arrives" in report.failures()[0].note
    assert "gradient stopped at argument x" in titles(report)


@needs(torch, "vtnp[peers]")
def test_no_dependence_is_no_stopped_gradient():
    def constant(x):
        return 0.0 * x

    def without(Q, K):
        return torch.full((*Q.shape[:-1], K.shape[-2]), 1.0 / K.shape[-2], dtype=Q.dtype)

    assert not check(constant, "relu", library="torch").right
    report = check(without, "attention-weights", sizes={"m": 1}, library="torch")
    assert not any("gradient stopped" in title for title in titles(report))


@needs(jax, "vtnp[jax]")
def test_jax_and_its_gradients():
    import jax.numpy as jnp

    def attends(Q, K):
        logits = Q @ jnp.swapaxes(K, -1, -2) / math.sqrt(Q.shape[-1])
        return jax.nn.softmax(logits, axis=-1)

    report = check(attends, "attention-weights", dtypes=("float64",))
    assert (report.library, report.right) == ("jax", True)


def test_autograd():
    import autograd.numpy as anp

    def relu(x):
        return anp.maximum(x, 0.0)

    report = check(relu, "relu", dtypes=("float64",))
    assert (report.library, report.right) == ("autograd", True)
    assert any(line.kind == "gradient" for line in report.lines)


# --- Formats of the report ------------------------------------------------------------------------


def test_json_is_valid_by_its_schema():
    import jsonschema

    schema = json.loads((Path(vtnp.__file__).parent / "verify/report.schema.json").read_text())
    for candidate in (softmax, sigmoid, raises, lambda x: x * math.nan):
        report = check(candidate, "softmax", library="numpy", **FAST)
        strict = json.dumps(report.as_dict(), allow_nan=False)
        jsonschema.validate(json.loads(strict), schema)


def test_junit_has_a_case_for_each_line():
    report = check(sigmoid, "softmax", **FAST)
    suite = ET.fromstring(as_xml(report))
    counted = [line for line in report.lines if line.kind != "special"]
    assert len(suite.findall("testcase")) == len(counted) == int(suite.get("tests"))
    assert len(suite.findall("testcase/failure")) == int(suite.get("failures")) > 0
    assert "sigmoid (softmax)" in suite.find("testcase/failure").text


def test_junit_replaces_what_xml_cannot_hold():
    def red(x):
        raise RuntimeError("\x1b[31mred\x00")

    suite = ET.fromstring(as_xml(check(red, "relu", **FAST)))
    assert "red" in suite.find("testcase/error").get("message")
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")


def test_junit_has_error_and_bound():
    suite = ET.fromstring(as_xml(check(softmax, "softmax", **FAST)))
    assert "bound" in suite.find("testcase/system-out").text


def test_text_without_a_terminal(capsys):
    print_report(check(sigmoid, "softmax", **FAST))
    out = capsys.readouterr().out
    assert ": wrong" in out
    assert "sigmoid (softmax)" in out
    assert "\x1b" not in out


def test_example_fails_as_given_and_is_the_smallest():
    report = check(sigmoid, "softmax", **FAST)
    code, _, expected = report.example.partition("# expected result:\n")
    space = {"candidate": sigmoid}
    exec(code, space)
    expected_result = eval(expected, {"np": np, "array": np.array})
    assert space["result"].shape == expected_result.shape
    assert not np.allclose(space["result"], expected_result)
    assert np.allclose(expected_result, softmax(eval_argument(code)))
    assert expected_result.size <= 3


def eval_argument(code):
    space = {"candidate": lambda x: x}
    exec(code, space)
    return space["result"]


# --- The command line -----------------------------------------------------------------------------

MINE = """
import os, time
import numpy as np

def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)

def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))

def hangs(x):
    time.sleep(60)

def leaves(x):
    os._exit(3)

def hangs_backwards(x):
    from autograd.extend import defvjp, primitive
    slow = primitive(lambda x: np.maximum(x, 0.0))
    defvjp(slow, lambda ans, x: lambda g: time.sleep(60))
    return slow(x)

class Holder:
    relu = staticmethod(lambda x: np.maximum(x, 0.0))

number = 5
"""


# Brings it about that vtnp looks at each trial for a while.
SLOW = """
import time
from importlib import import_module

def slowly(judge):
    own_error_units = judge.own_error_units
    def slow(*args):
        time.sleep(0.3)
        return own_error_units(*args)
    judge.own_error_units = slow

slowly(import_module("vtnp.verify.judge"))
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return str(path)


def run(*words):
    return main(["verify", *words, "--dtype", "float64", "--no-gradients"])


def test_exit_statuses(mine, capsys):
    assert run(f"{mine}:softmax", "--formula", "softmax") == 0
    assert run(f"{mine}:Holder.relu", "--formula", "relu") == 0
    assert run(f"{mine}:sigmoid", "--formula", "softmax") == 1
    capsys.readouterr()
    assert run(f"{mine}:number", "--formula", "softmax") == 2
    assert "number is not callable" in capsys.readouterr().err


def test_json_and_junit_of_the_command(mine, tmp_path, capsys):
    out = tmp_path / "out.xml"
    assert run(f"{mine}:sigmoid", "--formula", "softmax", "--json", "--junit", str(out)) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "wrong"
    assert report["findings"][0]["mistakes"] == [["softmax", "sigmoid"]]
    assert ET.parse(out).getroot().tag == "testsuite"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["softmax", "--formula", "softmax"], "expected package.module:function"),
        (["nowhere.py:softmax", "--formula", "softmax"], "there is no file nowhere.py"),
        (["no_such_module:f", "--formula", "softmax"], "cannot import no_such_module"),
        (["math:nothing", "--formula", "softmax"], "math has no nothing"),
        (["math:exp", "--formula", "sofmax"], "did you mean softmax"),
        (["math:exp", "--formula", "softmax", "--name", "x"], "expected KEY=VALUE"),
        (["math:exp", "--formula", "softmax", "--size", "n=many"], "expected an integer"),
        (["math:exp"], "--formula"),
    ],
)
def test_refusals_are_one_line(words, said, capsys):
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_targets(mine):
    assert load(f"{mine}:Holder.relu")(np.array(-1.0)) == 0.0
    assert load("numpy:linalg.norm") is np.linalg.norm


# --- A process of its own -------------------------------------------------------------------------


def test_a_candidate_that_hangs_is_ended(mine):
    report = check_in_process(f"{mine}:hangs", "softmax", 0.5, dict(FAST))
    assert report.status == reports.WRONG
    assert report.lines[0].note == "took longer than 0.5 seconds"
    assert report.lines[0].case == "distinct sizes, typical values, float64, seed 0"


def test_the_time_that_vtnp_takes_is_not_the_candidates(mine, monkeypatch):
    """Each trial takes longer than the limit here, and its call of the candidate does not."""
    asked = dict(FAST) | {"sizes": {"n": 3}}
    monkeypatch.setenv("PYTHONPATH", str(Path(mine).parent), prepend=os.pathsep)
    (Path(mine).parent / "sitecustomize.py").write_text(SLOW)
    report = check_in_process(f"{mine}:softmax", "softmax", 0.2, asked)
    assert report.right, report.lines[:1]


def test_a_gradient_that_hangs_is_ended(mine):
    asked = {"dtypes": ("float64",), "examples": 0, "library": "autograd"}
    report = check_in_process(f"{mine}:hangs_backwards", "relu", 2.0, asked)
    assert report.lines[0].note == "took longer than 2 seconds"
    assert report.lines[0].case.startswith("gradients, ")


def test_a_candidate_that_ends_its_process(mine):
    report = check_in_process(f"{mine}:leaves", "softmax", 5.0, dict(FAST))
    assert report.lines[0].note == "ended its process with status 3"


def test_the_same_report_from_a_process_of_its_own(mine):
    report = check_in_process(f"{mine}:sigmoid", "softmax", 5.0, dict(FAST))
    assert titles(report)[0] == "sigmoid (softmax)"
    with pytest.raises(UsageError, match="is not callable"):
        check_in_process(f"{mine}:number", "softmax", 5.0, dict(FAST))
