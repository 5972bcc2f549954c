"""The mutants of a toy module, of which one survives; what is stale in a list."""

from pathlib import Path

import pytest

from tests.mutation.listed import Equivalent, StaleError, read_equivalents, read_known, stale
from tests.mutation.mutants import mutants, other_words
from tests.mutation.runs import Runner
from tests.mutation.selection import SelectedTests, formulas_at, modules_of, room_of, selected_at

ROOT = Path(__file__).parents[2]
TOY = '''"""A toy."""

LIMIT: int = 3


def clipped(x: "float | None", *, low: float = 0.0) -> float:
    """Return x, but not less than low."""
    if x is None:
        raise ValueError("1 + 1")
    return x if x > low else low
'''
TESTS = """
import pytest
from toy.clip import LIMIT, clipped

def test_clipped():
    assert LIMIT == 3
    assert clipped(2.0) == 2.0
    assert clipped(-1.0) == 0.0
    assert clipped(0.5, low=1.0) == 1.0

def test_nothing_is_refused():
    with pytest.raises(ValueError, match="1"):
        clipped(None)
"""


@pytest.fixture
def toy(tmp_path):
    root = tmp_path / "project"
    for folder in ("toy", "tests"):
        (root / folder).mkdir(parents=True)
        (root / folder / "__init__.py").touch()
    (root / "toy" / "clip.py").write_text(TOY)
    (root / "tests" / "test_clip.py").write_text(TESTS)
    (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    return root


def changes(source, words=None):
    return [each.change for each in mutants("m.py", source, words)]


def test_one_mutant_of_a_toy_survives_and_outcomes_are_remembered(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "-n auto")  # of this run, not of those
    planned = [
        (each, SelectedTests(("tests/test_clip.py",))) for each in mutants("toy/clip.py", TOY)
    ]
    cache = tmp_path / "cache.json"
    packages = ("toy", "tests", "pyproject.toml")
    with Runner(toy, tmp_path / "copies", packages=packages, cache=cache) as runner:
        outcomes = list(runner.outcomes(planned))
    fates = {each.mutant.change: (each.fate, each.by) for each in outcomes}
    # At x = low both are the same number: an equivalent mutant.
    assert [change for change, (fate, _) in fates.items() if fate != "killed"] == [
        "x > low -> x >= low"
    ]
    first = "tests/test_clip.py::test_clipped"
    assert fates["3 -> 4"] == ("killed", first)
    assert fates["x > low -> x >= low"] == ("survived", "")
    raising = next(change for change in fates if change.startswith("raise"))
    assert fates[raising] == ("killed", "tests/test_clip.py::test_nothing_is_refused")
    assert (toy / "toy" / "clip.py").read_text() == TOY

    with Runner(toy, tmp_path / "copies", packages=packages, cache=cache) as again:
        started = again.known.copy()
        assert list(again.outcomes(planned)) == outcomes
        assert again.known == started


def test_an_endless_mutant_and_tests_that_fail_anyway(toy, tmp_path):
    source = "def count(n):\n    i = 0\n    while i < n:\n        i += 1\n    return i\n"
    (toy / "toy" / "loop.py").write_text(source)
    (toy / "tests" / "test_loop.py").write_text(
        "from toy.loop import count\n\ndef test_count():\n    assert count(3) == 3\n"
    )
    (toy / "tests" / "test_wrong.py").write_text("def test_wrong():\n    assert 1 == 2\n")
    chosen = {each.change: each for each in mutants("toy/loop.py", source)}
    endless = chosen["i += 1 -> pass"]
    packages = ("toy", "tests", "pyproject.toml")
    with Runner(toy, tmp_path / "copies", packages=packages, limit=1.0) as runner:
        both = "tests/test_wrong.py", "tests/test_loop.py"
        planned = [(endless, SelectedTests(both)), (endless, SelectedTests(both[:1]))]
        killed, broken = runner.outcomes(planned)
        assert runner.failing == {"tests/test_wrong.py::test_wrong"}
    assert (killed.fate, killed.by) == ("killed", "tests/test_loop.py::test_count")
    assert broken.fate == "broken"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("a < b", ["a < b -> a <= b"]),
        ("a + 2", ["a + 2 -> a - 2", "2 -> 1", "2 -> 3"]),
        ("'a' + b", ["'a' -> 'a_'"]),
        ("x[-1]", ["-1 -> -2", "-1 -> 0"]),
        ("x[a:b]", ["x[a:b] -> x[:b]", "x[a:b] -> x[a:]"]),
        ("x['key']", []),
        ("not a", ["not a -> a"]),
        ("a and b", ["a and b -> a", "a and b -> a or b", "a and b -> b"]),
        ("a if b else c", ["a if b else c -> a", "a if b else c -> c"]),
        ("any(x)", ["any(x) -> all(x)"]),
        ("int(x)", ["int(x) -> x"]),
        ("x.astype(t)", ["x.astype(t) -> x"]),
        ("f(x, axis=a)", ["f(x, axis=a) -> f(x)"]),
        ("f(x, keepdims=True)", ["True -> False"]),
        ("zip(a, b, strict=True)", []),
        ("0.5", ["0.5 -> 0.25", "0.5 -> 1.5"]),
        ("where(a, b, c)", ["where(a, b, c) -> where(a, c, b)"]),
        ("[a for a in b if c]", ["[a for a in b if c] -> [a for a in b]"]),
        ("f'{1 + 1}'", []),
    ],
)  # fmt: skip
def test_an_expression_is_changed(code, expected):
    assert sorted(changes(f"y = {code}")) == sorted(expected)


def test_statements_are_dropped_where_the_program_runs_on():
    source = "def f(a):\n    a.sort()\n    b = a\n    b = a\n    b[a] = a\n    return b, a\n"
    assert changes(source) == [
        "a.sort() -> pass", "b = a -> pass", "b[a] = a -> pass", "(b, a) -> (a, b)",
    ]  # fmt: skip
    assert mutants("m.py", source)[1].line == 4


def test_conditions_of_a_formula_are_dropped_and_changed():
    source = "@spec('id', requires=('n >= 1', 'm'))\ndef f(): pass\n"
    found = changes(source)
    assert "('n >= 1', 'm') -> ('m',)" in found
    assert "'n >= 1' -> '(n > 1)'" in found


def test_an_option_becomes_another_value_of_it():
    source = 'Start = Literal["a", "b"]\n\ndef f(start="a"):\n    return start\n'
    assert changes(source, other_words([source])) == ["'a' -> 'b'"]


def test_a_mutant_is_the_source_with_one_change():
    source = 'é = "ü"; f(x, (a) + b)\n'
    found = {each.change: each.of(source) for each in mutants("m.py", source)}
    assert found["a + b -> a - b"] == 'é = "ü"; f(x, (a - b))\n'


def test_an_entry_that_fits_no_mutant_is_stale():
    entries = [
        Equivalent("toy/clip.py", "clipped", "return x if x > low else low", change, "both low")
        for change in ("x > low -> x >= low", "x > high -> x >= high")
    ]
    among = mutants("toy/clip.py", TOY)
    assert stale(entries, among) == entries[1:]
    assert [each.line for each in among if entries[0].fits(each)] == [10]


def test_a_known_gap_whose_text_has_changed_is_stale(toy, tmp_path):
    listed = tmp_path / "known.toml"
    listed.write_text(
        '[[mutant]]\nname = "limit"\nmodule = "toy/clip.py"\nbefore = "= 3"\nafter = "= 4"\n'
    )
    assert read_known(toy, listed)[0].of(TOY) == TOY.replace("= 3", "= 4")
    (toy / "toy" / "clip.py").write_text(TOY.replace("3", "5"))
    with pytest.raises(StaleError, match=r"limit: toy/clip\.py has '= 3' not once"):
        read_known(toy, listed)


def test_tests_belong_to_a_place():
    assert formulas_at(ROOT, "vtnp/encoder.py:softmax") == ("softmax",)
    helper = formulas_at(ROOT, "vtnp/encoder.py:ACTIVATIONS")
    assert "feed-forward" in helper
    assert "feed-forward-sublayer" not in helper
    own = selected_at(ROOT, "vtnp/encoder.py", "softmax")
    assert own.formulas == ("softmax",)
    assert own.args[0] == "tests/formulas/test_formulas.py"
    assert "spec/encoder/softmax.md" in own.args
    assert selected_at(ROOT, "vtnp/models/vivit.py", "apply").args == (
        "tests/models/test_vivit_model.py", "tests/models",
    )  # fmt: skip
    assert room_of("vtnp/verify/judge.py") == "judge"
    assert "vtnp/verify/judge.py" not in modules_of(ROOT, "verify")
    assert modules_of(ROOT, "judge") == ["vtnp/verify/judge.py"]


@pytest.mark.deep
def test_the_lists_fit_the_code():
    entries = read_equivalents()
    modules = {entry.module for entry in entries}
    words = other_words(path.read_text() for path in sorted((ROOT / "vtnp").rglob("*.py")))
    among = [x for name in modules for x in mutants(name, (ROOT / name).read_text(), words)]
    assert stale(entries, among) == []
    assert read_known(ROOT)
