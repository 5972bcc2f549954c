"""Which modules there are to mutate, and which tests belong to a place in them."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.mutation.mutants import defined

CHAPTERS = (
    "encoder", "tokens", "positions", "timesformer", "vivit", "motionformer", "deformable", "mvit",
    "nystromformer", "longnet",
)  # fmt: skip
_GRADIENTS = tuple(
    f"tests/formulas/test_formulas.py::{name}"
    for name in ("test_gradient_of_every_argument", "test_second_order", "test_dtype_stays")
)
# The room of a module: its name in the table, the modules, and the tests, quick ones first.
ROOMS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "formulas": (tuple(f"vtnp/{name}.py" for name in CHAPTERS), ()),
    "rules": (("vtnp/_array/rules.py",), ("tests/array", *_GRADIENTS)),
    "primitives": (("vtnp/_array",), ("tests/array", "tests/registry", *_GRADIENTS)),
    "registry": (
        ("vtnp/_registry",),
        (
            "tests/registry", "tests/project/test_pages.py", "tests/project/test_public_api.py",
            "tests/formulas/test_fixed_axes.py", "tests/formulas/test_options.py",
            "tests/formulas/test_formulas.py::test_wrong_arrays_are_refused_by_name",
            "tests/formulas/test_policies.py",
        ),
    ),
    "models": (("vtnp/models",), ("tests/models",)),
    "motion": (("vtnp/video",), ("tests/video",)),
    "cost": (("vtnp/cost",), ("tests/cost",)),
    "checkpoints": (("vtnp/checkpoints",), ("tests/checkpoints",)),
    "judge": (
        ("vtnp/verify/judge.py",), ("tests/verify/test_judge.py", "tests/verify/test_verify.py"),
    ),
    "verify": (("vtnp/verify",), ("tests/verify",)),
}  # fmt: skip


# Tests of a module in another room than its own.
_FURTHER = {"vtnp/_registry/pages.py": ("tests/project/test_wheel.py",)}
_AT_MOST = 5  # formulas whose tests are run for a definition that many use


class SelectedTests(NamedTuple):
    """Arguments of pytest, and the formulas whose tests are wanted of tests/formulas."""

    args: tuple[str, ...]
    formulas: tuple[str, ...] = ()


def room_of(module: str) -> str:
    """Return the first room that has a module, "" where none has."""
    for room, (paths, _) in ROOMS.items():
        if any(module == path or module.startswith(f"{path}/") for path in paths):
            return room
    return ""


def modules_of(root: Path, name: str) -> list[str]:
    """Return the modules of a room, a folder or a formula's chapter, or the one of that path."""
    other = (name if "/" in name else f"vtnp/{name}.py",)
    paths = ROOMS[name][0] if name in ROOMS else other
    found = [x for path in paths for x in [root / path, *sorted((root / path).rglob("*.py"))]]
    modules = [str(x.relative_to(root)) for x in found if x.suffix == ".py" and x.exists()]
    return [each for each in modules if name not in ROOMS or room_of(each) == name]


def selected_at(root: Path, module: str, where: str) -> SelectedTests:
    """Return the tests that belong to a place: the formula's own, or those of the module's room.

    where: the function around it.
    """
    room = room_of(module)
    if room != "formulas":
        stem = Path(module).stem
        own = [f"tests/{room}/test_{stem}{end}.py" for end in ("", "_model")]
        # The names of published tensors are held to them by the chapter's vectors and peers.
        of_chapter = [f"tests/{stem}"] if room == "checkpoints" and stem in CHAPTERS else []
        further = _FURTHER.get(module, ())
        return SelectedTests(_existing(root, [*own, *ROOMS[room][1], *of_chapter, *further]))
    chapter = Path(module).stem
    ids = formulas_at(root, f"{module}:{where.partition('.')[0]}")[:_AT_MOST]
    args = [
        "tests/formulas/test_formulas.py",
        "tests/formulas/test_claims.py::test_claim",
        f"tests/{chapter}/test_{chapter}.py",
        f"tests/{chapter}/test_vectors.py",
        *[f"spec/{chapter}/{id}.md" for id in ids],
        "tests/exact",
        f"tests/{chapter}",
        *sorted(str(x.relative_to(root)) for x in (root / "tests/formulas").glob("test_*.py")),
        "tests/project/test_traceability.py::test_pages_functions_and_claims_agree",
    ]
    # Mistakes are rejected by the oracle, whatever the formula is; others test the strategies.
    others = ("claims", "coverage", "mistakes", "strategies")
    left_out = {f"tests/formulas/test_{name}.py" for name in others}
    wanted = [arg for arg in args if arg not in left_out]
    return SelectedTests(_existing(root, wanted), ids)


def _existing(root: Path, args: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(arg for arg in args if (root / arg.partition("::")[0]).exists()))


@cache
def formulas_at(root: Path, where: str) -> tuple[str, ...]:
    """Return the formulas that a definition of a chapter belongs to: itself, or what uses it.

    where: the chapter and the name, such as "vtnp/encoder.py:softmax".
    """
    ids, uses = _definitions(root)
    reached = new = {where}
    while new:
        # What uses a formula is another one, with tests of its own.
        new = {name for name in uses if uses[name] & (new - ids.keys())} - reached
        reached = reached | new
    return tuple(ids[name] for name in ids if name in reached)


@cache
def _definitions(root: Path) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Return the ids of formulas, and what each definition of the chapters uses of them all."""
    ids: dict[str, str] = {}
    uses: dict[str, set[str]] = {}
    public: dict[str, str] = {}
    for chapter in CHAPTERS:
        module = f"vtnp/{chapter}.py"
        tree = ast.parse((root / module).read_text())
        own = {name: f"{module}:{name}" for node in tree.body for name in defined(node)}
        for node in tree.body:
            names = {x.id for x in ast.walk(node) if isinstance(x, ast.Name)}
            for name in defined(node):
                uses[own[name]] = {x for each in names if (x := (public | own).get(each))}
            for decorator in getattr(node, "decorator_list", []):
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "spec":
                    ids[own[node.name]] = ast.literal_eval(decorator.args[0])
        public |= {name: place for name, place in own.items() if not name.startswith("_")}
    return ids, uses
