"""The form of the pages; their letters, sources and links."""

import inspect
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable
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
CHAPTERS = sorted({path.parent.name for path in PAGES})
PAGES_OF = {name: [path for path in PAGES if path.parent.name == name] for name in CHAPTERS}
KEYS = [
    "id",
    "code",
    "survey",
    "source",
    "plain",
    "requires",
    "accuracy",
    "uses",
    "laws",
    "special",
    "mistakes",
    "optional",
]
TABLES = ["args", "params", "defaults", "returns", "cost"]
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
OPTIONAL = {"args", "params", "requires", "optional", "defaults", "Steps"}

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
    """Tell whether `found` is `whole` without some of the optional names."""
    return found == [name for name in whole if name in found or name not in OPTIONAL]


def letters(shape: str) -> set[str]:
    """Return the axes that a shape string names."""
    parsed = parse(shape)
    row = {parsed.row} if parsed.row else set()
    return row | {axis for axis in parsed.before + parsed.after if not axis.isdigit()}


@cache
def declared(section: str) -> dict[str, Counter[str]]:
    """Return how often notation.md declares each letter, by chapter; "" for all chapters."""
    _, _, rest = text_of(SPEC / "notation.md").partition(f"\n## {section}\n")
    assert rest, f"spec/notation.md has no section {section}"
    found = {chapter: Counter[str]() for chapter in ("", *CHAPTERS)}
    for row in re.findall(r"^\| `.*\|$", rest.partition("\n## ")[0], flags=re.MULTILINE):
        first, _, *chapter, _ = row.strip("|").split("|")
        found[chapter[0].strip() if chapter else ""].update(re.findall(r"`(\w+)`", first))
    return found


def undeclared(letters: Iterable[str], section: str, path: Path) -> list[str]:
    """Return the letters of a page that are declared neither for all chapters nor for its own."""
    known = declared(section)
    return sorted(set(letters) - known[""].keys() - known[path.parent.name].keys())


def unused(section: str, letters_of: Callable[[Path], Iterable[str]]) -> list[str]:
    """Return the letters that are declared and on no page of their chapter."""
    used = {
        chapter: {x for path in PAGES_OF[chapter] for x in letters_of(path)} for chapter in CHAPTERS
    }
    used[""] = set().union(*used.values())
    return [
        f"{letter} {chapter}".strip()
        for chapter, letters in declared(section).items()
        for letter in sorted(letters.keys() - used[chapter])
    ]


def repeated(section: str) -> list[str]:
    """Return the letters that are declared more than once for one chapter."""
    return [
        f"{letter} {chapter}".strip()
        for chapter, letters in declared(section).items()
        for letter, times in letters.items()
        if times > 1
    ]


@cache
def bibliography() -> dict[str, dict[str, str]]:
    return tomllib.loads(text_of(SPEC / "bibliography.toml"))


def test_there_are_pages():
    assert PAGES, "spec/ has no page: nothing would be checked"


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
def test_sections_are_in_order(path):
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
    stated = found.get("args", {}) | found["returns"]
    return {name.removesuffix("[]"): shape for name, shape in stated.items()}


def letters_of_cost(path: Path) -> set[str]:
    return set(names_in(front(path)["cost"]["multiply_adds"]))


def axes(path: Path) -> set[str]:
    return set().union(*map(letters, arrays(path).values()))


@each_page
def test_every_letter_is_declared(path):
    assert not undeclared(axes(path), "Axes", path), "declare these axes in spec/notation.md"
    assert not undeclared(arrays(path), "Arrays", path), "declare these arrays in spec/notation.md"


@each_page
def test_cost_is_an_expression_over_axes_and_options(path):
    options = inspect.signature(vtnp.formula(path.stem).function).parameters
    assert not undeclared(letters_of_cost(path) - options.keys(), "Axes", path)


def test_every_axis_has_one_meaning_in_a_chapter_and_is_used():
    assert not repeated("Axes")
    not_used = unused("Axes", lambda path: axes(path) | letters_of_cost(path))
    assert not not_used, "spec/notation.md declares axes of no page"


def test_every_array_has_one_meaning_in_a_chapter_and_is_used():
    assert not repeated("Arrays")
    not_used = unused(
        "Arrays", lambda path: {*arrays(path), *re.findall(r"`(\w+)`", text_of(path))}
    )
    assert not not_used, "spec/notation.md declares arrays of no page"


def test_a_letter_of_another_chapter_is_not_declared():
    """So that a page cannot borrow a meaning that its chapter does not have."""
    path = SPEC / "encoder" / "attention.md"
    assert undeclared(["n", "points", "made_up"], "Axes", path) == ["made_up", "points"]
    assert undeclared(["points"], "Axes", SPEC / "deformable" / "deformable-weights.md") == []


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
def test_links_resolve(path):
    text = outside_code(text_of(path))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?://", target):
            assert (path.parent / target.partition("#")[0]).exists(), target


def test_the_index_is_up_to_date():
    readme = text_of(README)
    assert START in readme
    assert END in readme
    assert readme == with_index(readme, index(vtnp.formulas())), (
        "run `python -m tests.project.make_index`"
    )
