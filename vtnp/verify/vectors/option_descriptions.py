"""What docstrings and pages say of options: read from parameters, tables, lists, paragraphs."""

import inspect
import re
from collections.abc import Iterable, Iterator

from vtnp._registry.pages import formula, front_matter
from vtnp._registry.spec import registry
from vtnp.verify.page_text import plain_line

_NOT_READ = ("By hand", "Usual mistakes", "Sources")  # sections that describe no option


def description(id: str, option: str) -> str:
    """Return what the docstring, the page, and pages that it refers to say of an option."""
    texts = _texts_on(id, option)
    is_elsewhere = not texts or any("as there" in text for text in texts)
    for other in _referred_to(id, texts) or (_uses(id) if is_elsewhere else ()):
        texts += _texts_on(other, option)
    own = _in_docstring(id, option)
    return " / ".join(dict.fromkeys([own, *texts] if own else texts))


def value_descriptions(id: str, option: str, values: Iterable[str]) -> dict[str, str]:
    """Return what the nearest page says of each string that an option may be."""
    near = [id, *_referred_to(id, _texts_on(id, option)), *_below(id)]
    found = {}
    for value in values:
        pages = ([x for x in _passages(formula(each).page) if f'"{value}"' in x] for each in near)
        texts = next(filter(None, pages), [])
        if texts:
            found[value] = " / ".join(dict.fromkeys(texts))
    return found


def _texts_on(id: str, option: str) -> list[str]:
    return [text for text in _passages(formula(id).page) if f"`{option}`" in text]


def _referred_to(id: str, texts: Iterable[str]) -> list[str]:
    """Return the formulas that passages refer to for an option."""
    words = [word for text in texts for word in re.findall(r"\b(?:as in|see) ([a-z0-9-]+)", text)]
    return [each for each in dict.fromkeys(words) if each in registry and each != id]


def _uses(id: str) -> list[str]:
    return list(front_matter(formula(id).page)["uses"])


def _below(id: str) -> Iterator[str]:
    """Yield a formula and those that it is made of, level by level."""
    level, seen = [id], {id}
    while level:
        yield from level
        used = [use for each in level for use in _uses(each)]
        level = [use for use in dict.fromkeys(used) if use not in seen]
        seen.update(level)


def _passages(page: str) -> Iterator[str]:
    """Yield rows of tables, items of lists and paragraphs, each on one line."""
    for section in page.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        if title.strip() in _NOT_READ:
            continue
        for block in re.sub(r"```.*?```", "", text, flags=re.DOTALL).split("\n\n"):
            lines = block.strip().splitlines()
            if lines and lines[0].startswith("|"):
                cells = [[c.strip() for c in re.split(r"(?<!\\)\|", row)] for row in lines[2:]]
                yield from (_plain(", ".join(filter(None, row))) for row in cells)
            else:
                # An item of a list continues over indented lines.
                items = re.split(r"\n(?=- |\d+\. )", "\n".join(lines))
                yield from (_plain(item) for item in items if item)


def _plain(text: str) -> str:
    text = re.sub(r"^- |^\d+\. ", "", text)
    # Links to pages by the id of the page.
    return plain_line(re.sub(r"\[[^]]*\]\((?:[^)]*/)?([a-z0-9-]+)\.md\)", r"\1", text))


def _in_docstring(id: str, option: str) -> str:
    """Return the text of a parameter; "" where the docstring has none."""
    text = inspect.getdoc(registry[id].function) or ""
    _, _, parameters = text.partition("\nParameters\n")
    parameters = re.split(r"\n(?=[A-Z][a-z]+\n-+\n)", parameters)[0]
    for entry in re.split(r"\n(?=\w)", parameters):
        names, _, description = entry.partition("\n")
        if option in re.split(r", ", names.partition(" : ")[0]):
            return _plain(description)
    return ""
