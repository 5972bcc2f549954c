"""What the harness says in the words of a formula's page."""

import re
from functools import cache

from vtnp._registry.pages import formula, front_matter
from vtnp._registry.spec import registry
from vtnp.verify.plain_math import plain_math


@cache
def inner_formulas(id: str) -> tuple[str, ...]:
    """Return the formulas that a formula is made of, and those that they are made of."""
    ids = [id]
    for each in ids:
        ids += [used for used in front_matter(formula(each).page)["uses"] if used not in ids]
    return tuple(ids[1:])


def what_goes_wrong(id: str, mistake: str) -> str:
    """Return what the page says of a mistake; "" where it says nothing."""
    _, _, section = formula(id).page.partition("\n## Usual mistakes\n")
    section = section.partition("\n## ")[0]
    for entry in section.split("\n- ")[1:]:
        names, _, text = entry.partition("\n\n")[0].partition(":")
        if f"`{mistake}`" in names:
            return plain_line(text)
    return ""


def where_to_look(id: str) -> str:
    """Return the formula as it should be, and the page that says more."""
    return f"{formula(id).plain} ({registry[id].page_path}, Formula and Usual mistakes)"


def plain_line(text: str) -> str:
    """Write a passage of a page on one line, without TeX and addresses of links."""
    linked = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    return plain_math(" ".join(linked.split()))
