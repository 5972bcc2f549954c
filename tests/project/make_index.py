"""Writes the index of formulas into spec/README.md: `python -m tests.project.make_index`."""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import vtnp
from vtnp import Formula

README = Path(__file__).parents[2] / "spec" / "README.md"
START = "<!-- index: written by `python -m tests.project.make_index` -->\n"
END = "<!-- end of the index -->\n"


def module(formula: Formula) -> str:
    return formula.function.__module__.removeprefix("vtnp.")


def index(formulas: Iterable[Formula]) -> str:
    """Return one table for each module, a row for each formula, in the survey's order."""
    head = "| formula | survey | function | laws |\n| --- | --- | --- | --- |\n"
    text = ""
    for name, group in groupby(formulas, key=module):
        text += f"\n### {name}\n\n{head}"
        for each in group:
            link = f"[{each.id}]({name}/{each.id}.md)"
            function = f"`vtnp.{name}.{each.function.__name__}`"
            text += f"| {link} | {each.survey} | {function} | {len(each.laws)} |\n"
    return text + "\n"


def with_index(readme: str, table: str) -> str:
    """Return the README with its index replaced."""
    head, _, rest = readme.partition(START)
    _, _, tail = rest.partition(END)
    return head + START + table + END + tail


if __name__ == "__main__":
    old = README.read_text(encoding="utf-8")
    README.write_text(with_index(old, index(vtnp.formulas())), encoding="utf-8")
