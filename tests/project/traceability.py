"""Holds pages, functions, claims and mistakes to each other; says what to do where they differ."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import vtnp
from vtnp._registry.pages import front_matter, pages_folder
from vtnp._registry.params import shapes_of
from vtnp._registry.spec import Entry, registry
from vtnp.claims import claims
from vtnp.mistakes import mistakes


@dataclass
class Project:
    """All that has to agree."""

    pages: dict[str, str]
    entries: dict[str, Entry]
    claims: set[tuple[str, str, str]]
    mistakes: set[tuple[str, str]]
    public: set[str]


def project() -> Project:
    """Return the project as it stands."""
    folder = pages_folder()
    return Project(
        pages={
            str(path.relative_to(folder)): path.read_text(encoding="utf-8")
            for path in sorted(folder.glob("*/*.md"))
        },
        entries={each.id: registry[each.id] for each in vtnp.formulas()},
        claims=set(claims),
        mistakes=set(mistakes),
        public={
            f"vtnp.{chapter}.{name}"
            for chapter in {entry.module for entry in registry.values()}
            for name in vars(import_module(f"vtnp.{chapter}"))
            if not name.startswith("_")
        },
    )


def complaints(project: Project) -> Iterator[str]:
    """Yield one sentence for each disagreement."""
    if not project.pages:
        yield "spec/ holds no page: nothing would be checked"
    wanted = {f"{entry.module}/{entry.id}.md": entry for entry in project.entries.values()}
    for path in wanted.keys() - project.pages.keys():
        yield f"{wanted[path].id} has no page: write spec/{path}, or remove its function"
    for path in project.pages.keys() - wanted.keys():
        yield f"spec/{path} has no formula: register one with @spec, or remove the page"
    for path in wanted.keys() & project.pages.keys():
        front = front_matter(project.pages[path])
        yield from of_function(wanted[path], front, f"spec/{path}", project)
        yield from of_claims(wanted[path], front, f"spec/{path}", project)
    known = set(project.entries)
    for kind, id, name in project.claims:
        if id not in known:
            yield f"the {kind} {name!r} is registered for {id!r}: no such formula"
    for id, name in project.mistakes:
        if id not in known:
            yield f"the mistake {name!r} is registered for {id!r}: no such formula"


def of_function(
    entry: Entry, front: Mapping[str, Any], path: str, project: Project
) -> Iterator[str]:
    """Hold a page to its function."""
    function, code = entry.function, f"{entry.function.__module__}.{entry.function.__name__}"
    if front["id"] != entry.id:
        yield f"{path}: id is {front['id']!r}; the function is registered as {entry.id!r}"
    if front["code"] != code or getattr(*_located(code), None) is not function:
        yield f"{path}: code is {front['code']!r}; the formula is {code}"
    if code not in project.public:
        yield f"{code} is not public: give it a name without an underscore in its chapter"
    if front["plain"] not in [line.strip() for line in (function.__doc__ or "").splitlines()]:
        yield (
            f"{code}: no line of the docstring is {front['plain']!r}: make the docstring's formula "
            f"and `plain` of {path} the same"
        )
    stated = dict(front.get("args", {}))
    real = {a.name: a.shape.text for a in entry.signature.arguments}
    if stated != real:
        yield f"{path}: [args] says {stated}, the signature of {code} {real}: change one"
    stated = dict(front.get("params", {}))
    real = {
        path: text for each in entry.signature.tables.values() for path, text in shapes_of(each)
    }
    if stated != real:
        yield f"{path}: [params] says {stated}, the TypedDict of {code} {real}: change one"
    stated = front.get("requires", [])
    if list(stated) != list(entry.requires):
        yield f"{path}: requires is {stated}, @spec of {code} has {list(entry.requires)}: change one"
    returned = [argument.shape.text for argument in entry.signature.returns]
    if list(front["returns"].values()) != returned:
        yield f"{path}: [returns] says {front['returns']}, the signature of {code} {returned}"
    if (used := used_by(function)) != set(front["uses"]):
        yield f"{path}: uses is {sorted(front['uses'])}, {code} calls {sorted(used)}: change one"


def of_claims(entry: Entry, front: Mapping[str, Any], path: str, project: Project) -> Iterator[str]:
    """Hold a page to the claims and to the mistakes written out."""
    id = entry.id
    claims_file, mistakes_file = (home(package, entry.module) for package in ("claims", "mistakes"))
    for kind, key in (("law", "laws"), ("special", "special")):
        checked = {c[2] for c in project.claims if c[:2] == (kind, id)}
        for name in set(front[key]) - checked:
            yield (
                f"{path}: {kind} {name!r} has no check: "
                f"write one in {claims_file} under @{kind}({id!r}, {name!r})"
            )
        for name in checked - set(front[key]):
            yield (
                f"{claims_file} has @{kind}({id!r}, {name!r}): "
                f"add it to {path}, or remove the check"
            )
    written = {name for formula, name in project.mistakes if formula == id}
    for name in set(front["mistakes"]) - written:
        yield f"{path}: mistake {name!r} is not written out: add it to {mistakes_file}"
    for name in written - set(front["mistakes"]):
        yield f"{mistakes_file} has {name!r} for {id!r}: add it to {path}"


def home(package: str, chapter: str) -> str:
    """Return where the claims or mistakes of a chapter are: a file, or a folder of files."""
    path = Path("vtnp", package, chapter)
    folder = Path(vtnp.__file__).parent / package / chapter
    return f"{path}/" if folder.is_dir() else f"{path}.py"


def _located(code: str) -> tuple[Any, str]:
    module, _, name = code.rpartition(".")
    return import_module(module), name


def used_by(function: Callable[..., Any]) -> set[str]:
    """Return the ids of the formulas that a function calls, itself or through private helpers."""
    ids = {entry.function: entry.id for entry in registry.values()}
    used: set[str] = set()
    seen: set[Any] = set()

    def visit(value: Any) -> None:
        if isinstance(value, dict):
            for each in value.values():
                visit(each)
        elif isinstance(value, FunctionType) and value not in seen:
            seen.add(value)
            if value in ids:
                used.add(ids[value])
            elif value.__module__.startswith("vtnp.") and not value.__module__.startswith(_BELOW):
                look_into(value)

    def look_into(value: FunctionType) -> None:
        for name in names(value.__code__):
            visit(value.__globals__.get(name))

    inner = inspect.unwrap(function)
    look_into(inner)
    return used


# What lies below the formulas calls none of them.
_BELOW = ("vtnp._array.", "vtnp._registry.")


def names(code: CodeType) -> set[str]:
    """Return the global names in a code object and in those nested in it."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= names(constant)
    return found
