"""The pages have one form, declared letters, known sources and links that lead somewhere."""

import inspect
import re
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import vtnp
from tests.project.make_index import END, README, START, index, with_index
from vtnp._registry.expressions import names_in
from vtnp._registry.pages import front_matter
from vtnp._registry.shapes import parse

SPEC = Path(__file__).parents[2] / "spec"
PAGES = sorted(SPEC.glob("*/*.md"))
KEYS = [
    "id",
    "code",
    "survey",
    "source",
    "plain",
    "requires",
    "uses",
    "laws",
    "special",
    "mistakes",
]
TABLES = ["args", "params", "returns", "cost"]
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
OPTIONAL = {"args", "params", "requires", "Steps"}

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
    assert re.fullmatch(
        r"(in )?eq\. \(\d+\)(-\(\d+\))?|Fig\. \d+(-\d+)?|§\d+(-\d+)?", found["survey"]
    )
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
        heads = re.findall(r"^- (`[^:]*):", section, flags=re.MULTILINE)
        explained = [name for head in heads for name in re.findall(r"`([a-z0-9-]+)`", head)]
        assert explained == found[key], f"{title}: one item for each of {key}, in their order"


@each_page
def test_the_example_by_hand_calls_the_formula(path):
    section = text_of(path).partition("\n## By hand\n")[2].partition("\n## ")[0]
    function = re.escape(front(path)["code"])
    assert re.search(rf"^>>> .*\b{function}\(", section, flags=re.MULTILINE)


def arrays(path: Path) -> dict[str, str]:
    """Return the array arguments and results of a page, with their shapes."""
    found = front(path)
    return found.get("args", {}) | found["returns"]


def letters_of_cost(path: Path) -> set[str]:
    return set(names_in(front(path)["cost"]["multiply_adds"]))


def axes(path: Path) -> set[str]:
    return set().union(*map(letters, arrays(path).values()))


@each_page
def test_every_letter_is_declared(path):
    undeclared = sorted(axes(path) - declared("Axes").keys())
    assert not undeclared, "declare these axes in spec/notation.md"
    undeclared = sorted(arrays(path).keys() - declared("Arrays").keys())
    assert not undeclared, "declare these arrays in spec/notation.md"


@each_page
def test_cost_is_an_expression_over_axes_and_options(path):
    options = inspect.signature(vtnp.formula(path.stem).function).parameters
    unknown = sorted(letters_of_cost(path) - declared("Axes").keys() - options.keys())
    assert not unknown


def test_every_axis_is_declared_once_and_used():
    assert not [axis for axis, times in declared("Axes").items() if times > 1]
    used = set().union(*map(axes, PAGES), *map(letters_of_cost, PAGES))
    unused = sorted(declared("Axes").keys() - used)
    assert not unused, "spec/notation.md declares axes of no page"


def test_every_array_is_declared_once_and_used():
    assert not [array for array, times in declared("Arrays").items() if times > 1]
    used = {name for path in PAGES for name in re.findall(r"`(\w+)`", text_of(path))}
    used = used.union(*map(arrays, PAGES))
    unused = sorted(declared("Arrays").keys() - used)
    assert not unused, "spec/notation.md declares arrays of no page"


@each_page
def test_the_source_is_in_the_bibliography(path):
    source = front(path)["source"]
    assert source["key"] in bibliography(), "add it to spec/bibliography.toml"
    known = bibliography()[source["key"]]
    assert source.get("arxiv") == known.get("arxiv")
    assert source["place"]
    assert set(source) <= {"key", "arxiv", "place"}


def test_the_bibliography_is_complete_and_used():
    cited = {
        number
        for path in PAGES
        for number in re.findall(r"\barXiv (\d{4}\.\d{5})", " ".join(text_of(path).split()))
    }
    cited |= {front(path)["source"].get("arxiv") for path in PAGES} - {None}
    listed = [entry["arxiv"] for entry in bibliography().values() if "arxiv" in entry]
    missing, unused = sorted(cited - set(listed)), sorted(set(listed) - cited)
    assert not missing, "add these arXiv ids to spec/bibliography.toml"
    assert not unused, "no page cites these arXiv ids of spec/bibliography.toml"
    assert len(listed) == len(set(listed))
    for key, entry in bibliography().items():
        assert entry.keys() | {"arxiv"} == {"title", "arxiv", "edition"}, key


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
    assert readme == with_index(readme, index(vtnp.formulas())), (
        "run `python -m tests.project.make_index`"
    )
