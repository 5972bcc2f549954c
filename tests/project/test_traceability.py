"""Pages, functions, docstrings, claims and mistakes agree; the checker finds every disagreement."""

import inspect
from collections.abc import Callable
from functools import wraps

import pytest

import vtnp
from tests.project.traceability import Project, complaints, of_docstring, project
from vtnp._registry.shapes import parse
from vtnp._registry.spec import registry

PAGE, ID = "encoder/attention-weights.md", "attention-weights"


def test_pages_functions_and_claims_agree():
    found = list(complaints(project()))
    assert not found, "\n".join(found)


SURVEY_ORDER = """
    encoder tokens positions timesformer vivit motionformer deformable mvit nystromformer longnet
""".split()


def test_formulas_are_in_the_order_of_the_survey():
    modules = [each.function.__module__.removeprefix("vtnp.") for each in vtnp.formulas()]
    assert list(dict.fromkeys(modules)) == SURVEY_ORDER
    assert modules == sorted(modules, key=SURVEY_ORDER.index), (
        "the formulas of one module are not together"
    )


def no_page(project: Project) -> None:
    del project.pages[PAGE]


def no_pages(project: Project) -> None:
    project.pages.clear()


def page_without_formula(project: Project) -> None:
    project.pages["encoder/made-up.md"] = project.pages[PAGE]


def other_docstring(project: Project) -> None:
    entry = project.entries[ID]

    @wraps(entry.function)
    def function(*args, **kwargs):
        return entry.function(*args, **kwargs)

    function.__doc__ = (entry.function.__doc__ or "").replace("softmax_j", "softmax_i")
    project.entries[ID] = entry._replace(function=function)


def other_shape(project: Project) -> None:
    entry = project.entries[ID]
    first, *rest = entry.signature.arguments
    arguments = (first._replace(shape=parse("*b n d_v")), *rest)
    project.entries[ID] = entry._replace(signature=entry.signature._replace(arguments=arguments))


def other_result(project: Project) -> None:
    entry = project.entries[ID]
    (first,) = entry.signature.returns
    returns = (first._replace(shape=parse("*b m n")),)
    project.entries[ID] = entry._replace(signature=entry.signature._replace(returns=returns))


def other_default(project: Project) -> None:
    page = "nystromformer/iterative-pinv.md"
    project.pages[page] = project.pages[page].replace("iterations = 6", "iterations = 7")


def no_default(project: Project) -> None:
    project.pages[PAGE] = project.pages[PAGE].replace('optional = ["mask", "scale"]\n', "")


def law_without_check(project: Project) -> None:
    project.claims.discard(("law", ID, "permute-keys"))


def check_without_law(project: Project) -> None:
    project.claims.add(("law", ID, "made-up"))


def check_without_formula(project: Project) -> None:
    project.claims.add(("law", "made-up", "permute-keys"))


def other_uses(project: Project) -> None:
    project.pages[PAGE] = project.pages[PAGE].replace('uses = ["softmax"]', "uses = []")


def mistake_not_written(project: Project) -> None:
    project.mistakes.discard((ID, "no-scale"))


def mistake_on_no_page(project: Project) -> None:
    project.mistakes.add((ID, "made-up"))


TIES = "test_ties_have_a_value_and_a_gradient"


def policy_without_test(project: Project) -> None:
    project.policies = project.policies.replace(f"`{TIES}`", "none yet")


def policy_of_another_test(project: Project) -> None:
    project.tests["formulas/test_policies.py"].discard(TIES)


def unnamed_test(project: Project) -> None:
    project.tests["formulas/test_policies.py"].add("test_made_up")


def not_public(project: Project) -> None:
    project.public.discard("vtnp.encoder.attention_weights")


FAULTS: dict[Callable[[Project], None], str] = {
    no_page: f"{ID} has no page: write spec/{PAGE}, or remove its function",
    no_pages: "spec/ holds no page",
    page_without_formula: "spec/encoder/made-up.md has no formula: register one",
    other_docstring: "no line of the docstring is",
    other_shape: "[args] says",
    other_result: "[returns] says",
    other_default: "[defaults] says {'iterations': 7, 'start': 'paper'}, the signature of",
    no_default: "optional is [], None by default are ['mask', 'scale'] of",
    law_without_check: (
        "law 'permute-keys' has no check: write one in vtnp/claims/encoder/ under @law"
    ),
    check_without_law: f"vtnp/claims/encoder/ has @law({ID!r}, 'made-up'): add it to",
    check_without_formula: "the law 'permute-keys' is registered for 'made-up': no such formula",
    other_uses: "uses is [], vtnp.encoder.attention_weights calls ['softmax']",
    mistake_not_written: "mistake 'no-scale' is not written out",
    mistake_on_no_page: "vtnp/mistakes/encoder.py has 'made-up'",
    policy_without_test: "spec/policies.md: no test holds 'ties': write one",
    policy_of_another_test: f"'ties' names {TIES}, which tests/formulas/test_policies.py lacks",
    unnamed_test: "test_made_up holds no policy: add it to a row of spec/policies.md",
    not_public: "is not public: give it a name",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_drift_is_found(fault):
    seeded = project()
    fault(seeded)
    found = list(complaints(seeded))
    assert any(FAULTS[fault] in complaint for complaint in found), found


# A docstring of attention-weights in which one thing is wrong: (text, its replacement, complaint).
DOCSTRINGS = {
    "summary_of_two_lines": ("each query.\n", "each\nquery.\n", "must begin with one sentence"),
    "summary_without_full_stop": ("each query.\n", "each query\n", "must begin with one sentence"),
    "no_parameters": ("Parameters\n----------\n", "", "has no section Parameters"),
    "no_returns": ("Returns\n-------\n", "", "has no section Returns"),
    "no_raises": ("Raises\n------\n", "", "has no section Raises"),
    "no_references": ("References\n----------\n", "", "has no section References"),
    "empty_section": (
        "A query that may attend to nothing gets weight 0 for every key.\n",
        "",
        "Notes is empty",
    ),
    "unknown_section": ("Notes\n-----\n", "Hints\n-----\n", "sections are ["),
    "other_order": ("Notes\n-----\n", "Examples\n--------\n", "sections are ["),
    "parameter_left_out": ("Q, K : array", "Q : array", "documents ['Q', 'mask', 'scale']"),
    "parameter_of_another_name": ("scale : float", "factor : float", "'mask', 'factor'], the sig"),
    "other_order_of_parameters": ("Q, K : array", "K, Q : array", "documents ['K', 'Q', 'mask'"),
    "parameter_without_type": ("scale : float, optional", "scale", "parameter scale has no type"),
    "parameter_without_meaning": ("    Queries and keys.\n", "", "parameter Q, K has no meaning"),
    "other_page": ("attention-weights.md", "attention.md", "References must name spec/encoder/att"),
    "as_in": ("True where query i may", "As in attention. May", "says 'as in attention'"),
    "as_in_a_function": (
        "Queries and keys.",
        "As in `encoder.cross_attention`.",
        "says 'as in encoder.cross_attention'",
    ),
    "as_another_does": ("axes do not fit.", "axes fit as gelu does.", "says 'as in gelu'"),
}


@pytest.mark.parametrize("fault", DOCSTRINGS)
def test_an_incomplete_docstring_is_found(fault):
    old, new, complaint = DOCSTRINGS[fault]
    entry = registry[ID]

    @wraps(entry.function)
    def function(*args, **kwargs):
        return entry.function(*args, **kwargs)

    text = inspect.getdoc(entry.function) or ""
    assert text.count(old) == 1
    function.__doc__ = text.replace(old, new)
    found = list(of_docstring(entry._replace(function=function)))
    assert any(complaint in each for each in found), found


@pytest.mark.parametrize("id", list(registry))
def test_docstrings_are_complete(id):
    """Numpydoc's sections, every parameter, the page, and no meaning left to another formula."""
    assert not list(of_docstring(registry[id]))
