"""Pages = functions = claims = mistakes, and the checker itself finds every kind of drift."""

import inspect
from collections.abc import Callable
from functools import wraps

import pytest

import vtnp

from tests.project.traceability import Project, complaints, project
from vtnp._registry.shapes import parse

PAGE, ID = "encoder/attention-weights.md", "attention-weights"


def test_pages_functions_and_claims_agree():
    found = list(complaints(project()))
    assert not found, "\n".join(found)


SURVEY_ORDER = """
    encoder tokens positions timesformer vivit motionformer deformable mvit nystromformer longnet
""".split()


def test_formulas_stand_in_the_order_of_the_survey():
    modules = [each.function.__module__.removeprefix("vtnp.") for each in vtnp.formulas()]
    assert list(dict.fromkeys(modules)) == SURVEY_ORDER
    assert modules == sorted(modules, key=SURVEY_ORDER.index), "one module's are torn apart"


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


def not_public(project: Project) -> None:
    project.public.discard("vtnp.encoder.attention_weights")


FAULTS: dict[Callable[[Project], None], str] = {
    no_page: f"{ID} has no page: write spec/{PAGE}, or remove its function",
    no_pages: "spec/ holds no page",
    page_without_formula: "spec/encoder/made-up.md has no formula: register one",
    other_docstring: "no line of the docstring is",
    other_shape: "[args] says",
    other_result: "[returns] says",
    law_without_check: (
        "law 'permute-keys' has no check: write one in vtnp/claims/encoder/ under @law"
    ),
    check_without_law: f"vtnp/claims/encoder/ has @law({ID!r}, 'made-up'): add it to",
    check_without_formula: "the law 'permute-keys' is registered for 'made-up': no such formula",
    other_uses: "uses is [], vtnp.encoder.attention_weights calls ['softmax']",
    mistake_not_written: "mistake 'no-scale' is not written out",
    mistake_on_no_page: "vtnp/mistakes/encoder.py has 'made-up'",
    not_public: "is not public: give it a name",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_drift_is_found(fault):
    seeded = project()
    fault(seeded)
    found = list(complaints(seeded))
    assert any(FAULTS[fault] in complaint for complaint in found), found


def test_every_formula_has_a_docstring_in_the_house_form():
    """One sentence, the formula, then the arguments; at most about ten statements of body."""
    for entry in project().entries.values():
        lines = (inspect.getdoc(entry.function) or "").split("\n\n")
        assert lines[0].endswith("."), entry.id
        assert "\n" not in lines[0], f"{entry.id}: one line"
        assert len(lines) >= 3, f"{entry.id}: sentence, formula, arguments"
