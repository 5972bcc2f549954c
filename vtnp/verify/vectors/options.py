"""What pages say of their options: read out of tables, lists and paragraphs."""

import inspect
import re
from collections.abc import Iterable, Iterator

from vtnp._registry.pages import formula, front_matter
from vtnp._registry.spec import registry

_SILENT = ("By hand", "Usual mistakes", "Sources")  # sections that explain no option


def says(id: str, option: str) -> str:
    """Return what a page says of an option, and the pages that it names there or builds upon."""
    found = _of(id, option)
    elsewhere = not found or any("as there" in text for text in found)
    for other in _named(id, found) or (_uses(id) if elsewhere else ()):
        found += _of(other, option)
    return " / ".join(dict.fromkeys(found)) or _in_docstring(id, option)


def values(id: str, option: str, words: Iterable[str]) -> dict[str, str]:
    """Return what is said of each word that an option may be, by the nearest page that does."""
    near = [id, *_named(id, _of(id, option)), *_below(id)]
    told = {}
    for word in words:
        pages = ([x for x in _passages(formula(each).page) if f'"{word}"' in x] for each in near)
        found = next(filter(None, pages), [])
        if found:
            told[word] = " / ".join(dict.fromkeys(found))
    return told


def _of(id: str, option: str) -> list[str]:
    return [text for text in _passages(formula(id).page) if f"`{option}`" in text]


def _named(id: str, texts: Iterable[str]) -> list[str]:
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
    """Yield rows of tables, points of lists and paragraphs, each on one line."""
    for section in page.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        if title.strip() in _SILENT:
            continue
        for block in re.sub(r"```.*?```", "", text, flags=re.DOTALL).split("\n\n"):
            lines = block.strip().splitlines()
            if lines and lines[0].startswith("|"):
                cells = [[c.strip() for c in re.split(r"(?<!\\)\|", row)] for row in lines[2:]]
                yield from (_plain(", ".join(filter(None, row))) for row in cells)
            else:
                # A point of a list goes on over indented lines.
                points = re.split(r"\n(?=- |\d+\. )", "\n".join(lines))
                yield from (_plain(point) for point in points if point)


def _plain(text: str) -> str:
    text = re.sub(r"^- |^\d+\. ", "", text)
    text = re.sub(r"\[[^]]*\]\((?:[^)]*/)?([a-z0-9-]+)\.md\)", r"\1", text)  # links, to ids
    return " ".join(text.split())


def _in_docstring(id: str, option: str) -> str:
    text = inspect.getdoc(registry[id].function) or ""
    sentences = re.split(r"(?<=[.:;])\s+", " ".join(text.split()))
    places = [i for i, each in enumerate(sentences) if re.search(rf"\b{option}\b.*:$", each)]
    return " ".join(sentences[places[0] : places[0] + 2]) if places else ""
