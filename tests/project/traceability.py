"""Compares pages, functions, docstrings, claims and mistakes; says what to do where they differ."""

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import vtnp
from vtnp._registry.pages import front_matter, pages_folder
from vtnp._registry.params import shapes_of
from vtnp._registry.shapes import alternatives
from vtnp._registry.spec import Entry, registry
from vtnp.claims import claims
from vtnp.mistakes import mistakes

TESTS = Path(__file__).parents[1]


@dataclass
class Project:
    """All that has to agree."""

    pages: dict[str, str]
    entries: dict[str, Entry]
    claims: set[tuple[str, str, str]]
    mistakes: set[tuple[str, str]]
    public: set[str]
    policies: str
    tests: dict[str, set[str]]


POLICIES = "formulas/test_policies.py"


def project() -> Project:
    """Return the project as it is."""
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
        policies=(folder / "policies.md").read_text(encoding="utf-8"),
        tests={
            str(path.relative_to(TESTS)): set(
                re.findall(r"^def (test_\w+)", text, flags=re.MULTILINE)
            )
            for path in sorted(TESTS.glob("*/test_*.py"))
            for text in [path.read_text(encoding="utf-8")]
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
    yield from of_policies(project)
    known = set(project.entries)
    for kind, id, name in project.claims:
        if id not in known:
            yield f"the {kind} {name!r} is registered for {id!r}: no such formula"
    for id, name in project.mistakes:
        if id not in known:
            yield f"the mistake {name!r} is registered for {id!r}: no such formula"


def of_policies(project: Project) -> Iterator[str]:
    """Hold the table of policies to its tests, and the tests of policies to the table."""
    named = set()
    for row in re.findall(r"^\| .* \|$", project.policies, flags=re.MULTILINE):
        name, *_, cell = (each.strip() for each in row.strip("|").split(" | "))
        if name in {"policy", "---"}:
            continue
        tests = re.findall(r"`(?:([\w/]+\.py)::)?(test_\w+)`", cell)
        if not tests:
            yield f"spec/policies.md: no test holds {name!r}: write one, and name it in the row"
        for where, test in tests:
            file = where or POLICIES
            named.add((file, test))
            if test not in project.tests.get(file, set()):
                yield f"spec/policies.md: {name!r} names {test}, which tests/{file} lacks"
    for test in project.tests.get(POLICIES, set()):
        if (POLICIES, test.removesuffix("_in_more_cases")) not in named:
            yield f"tests/{POLICIES}: {test} holds no policy: add it to a row of spec/policies.md"


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
    yield from of_signature(entry, front, path)
    stated = front.get("requires", [])
    if list(stated) != list(entry.requires):
        yield f"{path}: requires is {stated}, @spec of {code} {list(entry.requires)}: change one"
    if (used := used_by(function)) != set(front["uses"]):
        yield f"{path}: uses is {sorted(front['uses'])}, {code} calls {sorted(used)}: change one"


def of_signature(entry: Entry, front: Mapping[str, Any], path: str) -> Iterator[str]:
    """Hold a page's shapes and defaults to the signature."""
    function, code = entry.function, f"{entry.function.__module__}.{entry.function.__name__}"
    stated = dict(front.get("args", {}))
    real = {a.name: a.shape.text for a in entry.signature.arguments}
    real |= {f"{a.name}[]": a.shape.text for a in entry.signature.sequences}
    if stated != real:
        yield f"{path}: [args] says {stated}, the signature of {code} {real}: change one"
    stated = dict(front.get("params", {}))
    real = {
        path: text for each in entry.signature.tables.values() for path, text in shapes_of(each)
    }
    if stated != real:
        yield f"{path}: [params] says {stated}, the TypedDict of {code} {real}: change one"
    stated, real = front.get("optional", []), optional_of(function)
    if stated != real:
        yield f"{path}: optional is {stated}, None by default are {real} of {code}: change one"
    stated, real = front.get("defaults", {}), defaults_of(function)
    # As text, since 1 == 1.0 == True.
    if repr(stated) != repr(real):
        yield f"{path}: [defaults] says {stated}, the signature of {code} {real}: change one"
    returned = [argument.shape.text for argument in entry.signature.returns]
    if list(front["returns"].values()) != returned:
        yield f"{path}: [returns] says {front['returns']}, the signature of {code} {returned}"


def optional_of(function: Callable[..., Any]) -> list[str]:
    """Return the names of the arguments that are None by default."""
    parameters = inspect.signature(function).parameters.items()
    return [name for name, each in parameters if each.default is None]


def defaults_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return all other defaults of a function, as TOML has them.

    A NamedTuple is a table, without the fields that are None. Where one has to be passed, or is
    None by default, the defaults of its fields are named like "prototypes.shared".
    """
    hints = typing.get_type_hints(inspect.unwrap(function))
    found: dict[str, Any] = {}
    for name, each in inspect.signature(function).parameters.items():
        if each.default is not each.empty and each.default is not None:
            found[name] = as_toml(each.default)
        else:
            found |= {
                f"{name}.{field}": as_toml(value)
                for kind in alternatives(hints[name])
                for field, value in getattr(kind, "_field_defaults", {}).items()
                if value is not None
            }
    return found


def as_toml(value: Any) -> Any:
    """Return a value as it comes out of a TOML file."""
    if hasattr(value, "_asdict"):
        return {name: as_toml(x) for name, x in value._asdict().items() if x is not None}
    return [as_toml(x) for x in value] if isinstance(value, tuple) else value


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


SECTIONS = ("Parameters", "Returns", "Raises", "Notes", "References", "Examples")


def of_docstring(entry: Entry) -> Iterator[str]:
    """Check that a docstring is numpydoc's, complete, and understood without another one."""
    code = f"{entry.function.__module__}.{entry.function.__name__}"
    text = inspect.getdoc(entry.function) or ""
    summary = text.partition("\n\n")[0]
    if "\n" in summary or not summary.endswith("."):
        yield f"{code}: the docstring must begin with one sentence on one line"
    found = sections(text)
    parameters = list(inspect.signature(entry.function).parameters)
    needed = {"Returns", "References"}
    needed |= {"Parameters"} if parameters else set()
    needed |= {"Raises"} if entry.requires else set()
    if list(found) != [name for name in SECTIONS if name in found]:
        yield f"{code}: sections are {list(found)}, expected some of {list(SECTIONS)} in this order"
    for name in sorted(needed - found.keys()):
        yield f"{code}: the docstring has no section {name}"
    for name, lines in found.items():
        if not any(line.strip() for line in lines):
            yield f"{code}: the section {name} is empty"
    yield from of_parameters(code, parameters, found.get("Parameters", []))
    if entry.page_path not in " ".join(found.get("References", [])):
        yield f"{code}: References must name {entry.page_path}"
    for name in sorted(borrowed(text)):
        yield f"{code}: the docstring says 'as in {name}': say here what it says there"


def of_parameters(code: str, parameters: list[str], lines: list[str]) -> Iterator[str]:
    """Check that the section Parameters has every parameter, with a type and a meaning."""
    heads = [i for i, line in enumerate(lines) if line and not line.startswith(" ")]
    documented = []
    for i, end in pairwise([*heads, len(lines)]):
        names, colon, kind = lines[i].partition(" : ")
        documented += [name.strip() for name in names.split(",")]
        if not colon or not kind.strip():
            yield f"{code}: parameter {names} has no type"
        if not any(line.strip() for line in lines[i + 1 : end]):
            yield f"{code}: parameter {names} has no meaning"
    if documented != parameters:
        yield f"{code}: the docstring documents {documented}, the signature has {parameters}"


def sections(text: str) -> dict[str, list[str]]:
    """Return the lines of each numpydoc section of a docstring."""
    found: dict[str, list[str]] = {}
    lines, name = text.splitlines(), ""
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line and below == "-" * len(line):
            name = line
            found[name] = []
        elif name and line != "-" * len(name):
            found[name].append(line)
    return found


def borrowed(text: str) -> set[str]:
    """Return the formulas to which a docstring leaves what it should say itself."""
    formulas = registry.keys() | {entry.function.__name__ for entry in registry.values()}
    words = " ".join(text.split())
    name = r"`*((?:[\w-]+\.)*[\w-]+)`*"
    named = re.findall(rf"\b[Aa]s in {name}", words) + re.findall(rf"\b[Aa]s {name} does\b", words)
    return {each for each in named if each.rpartition(".")[2] in formulas}


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
