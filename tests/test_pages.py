"""The pages have one form, declared letters, known sources and links that lead somewhere."""

import re
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import vtnp
from tests.make_index import END, README, START, index, with_index
from vtnp._pages import front_matter
from vtnp._shapes import parse

SPEC = Path(__file__).parents[1] / "spec"
PAGES = sorted(SPEC.glob("*/*.md"))
KEYS = ["id", "code", "survey", "source", "plain", "uses", "laws", "special", "mistakes"]
TABLES = ["args", "returns", "cost"]
SECTIONS = [
    "Formula",
    "Symbols",
    "Steps",
    "By hand",
    "Laws",
    "Special cases",
    "Usual mistakes",
    "Deviations and ambiguities",
    "Sources",
]
OPTIONAL = {"args", "Steps"}

each_page = pytest.mark.parametrize(
    "path", PAGES, ids=[str(path.relative_to(SPEC)) for path in PAGES]
)


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def front(path: Path) -> dict[str, Any]:
    return front_matter(text_of(path))


def outside_code(text: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def is_part_in_order(found: list[str], whole: list[str]) -> bool:
    """Tell whether `found` is `whole`, less some of what is optional."""
    return found == [name for name in whole if name in found or name not in OPTIONAL]


def letters(shape: str) -> set[str]:
    """Return the axes that a shape string names."""
    parsed = parse(shape)
    row = {parsed.row} if parsed.row else set()
    return row | {axis for axis in parsed.before + parsed.after if not axis.isdigit()}


@cache
def declared(section: str) -> Counter[str]:
    """Return how often each letter stands in the first column of a table of notation.md."""
    _, _, rest = text_of(SPEC / "notation.md").partition(f"\n## {section}\n")
    assert rest, f"spec/notation.md has no section {section}"
    table = rest.partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)
    return Counter(letter for row in rows for letter in re.findall(r"`(\w+)`", row))


@cache
def bibliography() -> dict[str, dict[str, str]]:
    return tomllib.loads(text_of(SPEC / "bibliography.toml"))


def test_there_are_pages():
    assert PAGES, "spec/ holds no page: nothing would be checked"


@each_page
def test_front_matter_is_complete_and_in_order(path):
    found = front(path)
    assert is_part_in_order(list(found), KEYS + TABLES), list(found)
    assert found["id"] == path.stem
    assert re.fullmatch(r"eq\. \(\d+\)|Fig\. \d+(-\d+)?|§\d+(-\d+)?", found["survey"])
    assert list(found["cost"]) == ["multiply_adds"]
    for key in ("laws", "special", "mistakes"):
        repeated = [name for name, times in Counter(found[key]).items() if times > 1]
        assert not repeated, f"{key}: {repeated} twice"


@each_page
def test_sections_stand_in_order(path):
    text = outside_code(text_of(path))
    assert re.findall(r"^# (.*)$", text, flags=re.MULTILINE), "no title"
    sections = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert is_part_in_order(sections, SECTIONS), sections


@each_page
def test_every_law_case_and_mistake_is_explained_where_it_belongs(path):
    found, text = front(path), text_of(path)
    for key, title in (
        ("laws", "Laws"),
        ("special", "Special cases"),
        ("mistakes", "Usual mistakes"),
    ):
        section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
        explained = re.findall(r"^- `([a-z0-9-]+)`", section, flags=re.MULTILINE)
        assert explained == found[key], f"{title}: one item for each of {key}, in their order"


@each_page
def test_the_example_by_hand_calls_the_formula(path):
    section = text_of(path).partition("\n## By hand\n")[2].partition("\n## ")[0]
    function = front(path)["code"].rpartition(".")[2]
    assert re.search(rf"^>>> .*\bvtnp\.{function}\(", section, flags=re.MULTILINE)


@each_page
def test_every_letter_is_declared(path):
    found = front(path)
    arrays = found.get("args", {}) | found["returns"]
    axes = set().union(*map(letters, arrays.values()))
    assert not axes - declared("Axes").keys(), "declare these axes in spec/notation.md"
    undeclared = arrays.keys() - declared("Arrays").keys()
    assert not undeclared, "declare these arrays in spec/notation.md"


@each_page
def test_cost_is_an_expression_over_the_axes(path):
    found = front(path)
    arrays = found.get("args", {}) | found["returns"]
    axes = set().union(*map(letters, arrays.values()))
    code = compile(found["cost"]["multiply_adds"], str(path), "eval")
    assert not set(code.co_names) - axes


@pytest.mark.parametrize("section", ["Axes", "Arrays"])
def test_every_letter_is_declared_once_and_used(section):
    repeated = [letter for letter, times in declared(section).items() if times > 1]
    assert not repeated, "declared more than once in spec/notation.md"
    text = "\n".join(map(text_of, PAGES))
    used = set(re.findall(r"\w+", text))
    assert not declared(section).keys() - used, "declared in spec/notation.md, on no page"


@each_page
def test_the_source_is_in_the_bibliography(path):
    source = front(path)["source"]
    assert source["key"] in bibliography(), "add it to spec/bibliography.toml"
    known = bibliography()[source["key"]]
    assert source.get("arxiv") == known.get("arxiv")
    assert source["place"]
    assert set(source) <= {"key", "arxiv", "place"}


def test_the_bibliography_is_complete_and_used():
    text = "\n".join(map(text_of, PAGES))
    for key, entry in bibliography().items():
        assert entry.keys() | {"arxiv"} == {"title", "arxiv", "edition"}, key
        if "arxiv" in entry:
            assert re.fullmatch(r"\d{4}\.\d{5}", entry["arxiv"]), key
        assert f'"{key}"' in text or entry.get("arxiv", key) in text, f"{key}: no page cites it"


@pytest.mark.parametrize(
    "path",
    [SPEC.parent / "README.md", *sorted(SPEC.glob("*.md")), *PAGES],
    ids=lambda path: str(path.relative_to(SPEC.parent)),
)
def test_links_lead_somewhere(path):
    text = outside_code(text_of(path))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://", target):
            assert (path.parent / target.partition("#")[0]).exists(), target


def test_the_index_is_fresh():
    readme = text_of(README)
    assert START in readme
    assert END in readme
    assert readme == with_index(readme, index(vtnp.formulas())), "run `python -m tests.make_index`"
