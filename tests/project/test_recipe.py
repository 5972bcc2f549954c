"""CONTRIBUTING's recipe for a formula is complete: followed to the letter, all tests pass."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"(?:Create|Append\s+to|Add\s+to\s+the\s+table\s+\"(?P<table>\w+)\"\s+of)"
    r"\s+`(?P<path>[^`]+)`[^`]*?:\n\n"
    r"(?P<fence>`{3,4})\w+\n(?P<text>.*?)^(?P=fence)$",
    flags=re.MULTILINE | re.DOTALL,
)
# What every formula is put to, and what holds page and code to each other.
TESTS = (
    "tests/project/test_traceability.py",
    "tests/project/test_pages.py",
    "tests/formulas",
    "tests/exact/test_exact.py",
    "tests/cost/test_law.py",
    "tests/verify/test_confusion.py",
    "spec/positions/distance-bias.md",
)
CHOSEN = "distance-bias or distance_bias or test_pages or test_traceability"


def steps() -> list[tuple[str, str, str]]:
    """Return the steps of the recipe: a file, the table in it that a row is added to, the text."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    _, _, recipe = text.partition("## How to add a formula")
    return [(m["path"], m["table"] or "", m["text"]) for m in BLOCK.finditer(recipe)]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository in which the recipe has been followed."""
    folder = tmp_path_factory.mktemp("recipe")
    for name in ("vtnp", "spec", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.md"), ROOT / "LICENSE", ROOT / "pyproject.toml"):
        shutil.copy(file, folder / file.name)
    for path, table, text in steps():
        file = folder / path
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        start = re.search(rf"## {table}\n.*?\n\|[ |-]+\|\n", before, re.DOTALL) if table else None
        at = start.end() if start else len(before)
        apart = "\n\n" if file.suffix == ".py" else ""
        file.write_text(before[:at] + apart + text + before[at:], encoding="utf-8")
    run(folder, "-m", "tests.project.make_index")
    return folder


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={
            **{name: text for name, text in os.environ.items() if name != "PYTEST_ADDOPTS"},
            "PYTHONPATH": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def test_the_recipe_names_every_file():
    folders = [path.partition("/")[0] for path, _, _ in steps()]
    assert folders == ["spec"] * 3 + ["vtnp", "tests", "tests"] + ["vtnp"] * 4


@pytest.mark.deep
def test_a_formula_made_by_the_recipe_passes_every_test(copy):
    printed = run(copy, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-k", CHOSEN, *TESTS)
    assert " passed" in printed
    assert "2 of" in printed, "both mistakes were put to the test"


def test_a_step_left_out_is_noticed(copy):
    """Without its mistake the page is no longer true, and the tests say what to write."""
    file = copy / "vtnp/mistakes/positions.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(text[: text.index('@mistake("distance-bias", "bonus-for-distance")')])
    try:
        with pytest.raises(AssertionError, match="'bonus-for-distance' is not written out"):
            run(copy, "-m", "pytest", "-n", "0", "-q", "tests/project/test_traceability.py")
    finally:
        file.write_text(text, encoding="utf-8")
