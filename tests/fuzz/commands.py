"""Target: the command line, its names of formulas and models, its sizes, options and files."""

import contextlib
import dataclasses
import json
import random
from collections.abc import Callable
from io import StringIO
from pathlib import Path

from tests.fuzz import Case, WrongError, target
from tests.fuzz.arrays import BFLOAT16, changed_safetensors, described, weights
from tests.fuzz.folders import vectors
from tests.fuzz.mutations import changed_bytes, hostile_name, integer, special_file, string
from vtnp._registry.spec import registry
from vtnp.cli import main
from vtnp.cost import models
from vtnp.cost.sizes import size_names

_CONFIG = ("frames=2", "image=4x4", "patch=2", "channels=1", "d=4", "heads=2", "d_f=3", "layers=1",
           "classes=3")  # fmt: skip
_NAMES_TABLE = (
    b"input = b t h w c -> b c t h w\nnorm = norm : b d -> b d\nblocks.{i} = layers.{i}\n"
)
_CODE = (
    b"def f(x): return x", b"def f(:", b"f = 3", b"\0", b"\xff", b"raise ValueError('\\x1b[31m')",
    b"import no_such_module", b"def f(x): raise KeyError('\\x1b[31m')", b"x = 1\n" * 9,
    b"(" * 9000, b"def f(x):\n    raise ValueError('\\n'.join('abc'))", b"raise SystemExit(3)",
)  # fmt: skip
_CANDIDATES = ("math:sin", "no.such:f", ":", "math", ".:f", "..x:f", "math:", ":f", "math:sin.x")
_LITERALS = (
    "1", "None", "'\\d'", "(" * 300, "(" * 60_000, "[" * 5000, "-" * 60_000 + "1", "9" * 5000,
    "1or 2", "{}", "{[]: 1}", "'\\x1b[31m'", "1e999", "b'\\xff'", "0777", "f'{1}'", "\0",
    "{1: {2: {3: 4}}}",
)  # fmt: skip
_SIZES = (
    "none", "true", "2x2,none,max", "2048x1,4096x2", "nan", "inf", "0.5", "1e-300", "1_0", "0x10",
    "1e1_0", "gelu", "relu", "9" * 99, "9" * 101, "9" * 5000, "x".join(["2"] * 500),
)  # fmt: skip


def _cost(rng: random.Random, folder: Path) -> list[str]:
    name, keys = rng.choice((_a_formula, _a_model))(rng)
    if rng.random() < 0.1:
        name = string(rng, name)
    words = ["cost", name]
    for _ in range(rng.randrange(4)):
        key = string(rng, "n") if rng.random() < 0.05 else rng.choice(keys)
        words.append(f"{key}={_size(rng)}")
    if rng.random() < 0.5:
        words += rng.choice((
            ["--gradient"],
            ["--json"],
            ["--dtype", string(rng, "float32") if rng.random() < 0.5 else "float64"],
            ["--sweep", f"{rng.choice(keys)}={_size(rng)}..{_size(rng)}*{_size(rng)}"],
            ["--sweep", string(rng, "n=1..100*2")],
            ["--plot", str(folder / hostile_name(rng, ".bad"))],
        ))  # fmt: skip
    return words


def _a_formula(rng: random.Random) -> tuple[str, list[str]]:
    id = rng.choice(list(registry))
    return id, list(size_names(id))


def _a_model(rng: random.Random) -> tuple[str, list[str]]:
    name = rng.choice(list(models.names()))
    return name, [each.name for each in dataclasses.fields(models.config(name))]


def _size(rng: random.Random) -> str:
    kind = rng.randrange(16)
    if kind > 8:
        return str(rng.choice((1, 2, 3, 4, 8, 16, 64)))
    if kind == 0:
        return string(rng, "8")
    if kind <= 2:
        return rng.choice(_SIZES)
    if kind == 3:
        return "x".join(["2"] * rng.choice((1, 2, 3, 4)))
    return rng.choice(("", "", "1e", "2**", "-")) + str(integer(rng, 8))


def _verify(rng: random.Random, folder: Path) -> list[str]:
    path = folder / hostile_name(rng, ".py")
    path.write_bytes(rng.choice(_CODE))
    if rng.random() < 0.1:
        path.unlink()
        special_file(rng, path)
    candidate = f"{path}:f"
    if rng.random() < 0.4:
        candidate = rng.choice(
            (*_CANDIDATES, f"{path}:{string(rng, 'f')}", string(rng, "math:sin"))
        )
    words = [candidate, "--formula", rng.choice(("softmax", "eq2", string(rng, "softmax")))]
    words += ["--examples", rng.choice(("1", "1", "1", str(integer(rng, 1) % 3)))]
    options: list[list[str]] = [
        ["--layout", string(rng, "x=b n; result=b n")],
        ["--name", f"x={string(rng, 'y')}"],
        ["--name", string(rng, "x=y")],
        ["--extra", f"{string(rng, 'a')}={_literal(rng)}"],
        ["--size", f"n={_size(rng)[:6]}"],
        ["--size", f"{string(rng, 'n')}=9{'9' * rng.choice((0, 5000))}x"],
        ["--option", f"{string(rng, 'eps')}={_literal(rng)}"],
        ["--library", rng.choice(("numpy", string(rng, "torch")))],
        ["--device", string(rng, "cpu")],
        ["--dtype", rng.choice(("float32", string(rng, "float64")))],
        ["--seed", str(integer(rng))],
        ["--no-gradients"],
        ["--junit", str(folder / hostile_name(rng, ".xml"))],
        ["--junit", str(folder / "no" / "folder.xml")],
        ["--json"],
        ["--all"],
    ]
    for each in rng.sample(options, rng.choice((0, 1, 1, 2))):
        words += each
    return ["verify", *words]


def _literal(rng: random.Random) -> str:
    return string(rng) if rng.random() < 0.1 else rng.choice(_LITERALS)


def _compare(rng: random.Random, folder: Path) -> list[str]:
    files = {"weights": folder / "w.safetensors", "names": folder / "n.txt"}
    files["activations"] = folder / hostile_name(rng, ".safetensors")
    wrong = rng.random() < 0.3
    files["weights"].write_bytes(
        changed_safetensors(rng, weights(), {}) if wrong else right_weights()
    )
    files["activations"].write_bytes(changed_safetensors(rng, weights(), {}))
    text = _NAMES_TABLE if rng.random() < 0.3 else changed_bytes(rng, _NAMES_TABLE)
    files["names"].write_bytes(text)
    if rng.random() < 0.2:
        path = files[rng.choice(tuple(files))]
        path.unlink()
        special_file(rng, path)
    words = [string(rng, "timesformer") if rng.random() < 0.2 else "timesformer", *_CONFIG]
    words += ["--weights", str(files["weights"])]
    other = rng.choice((["--activations", str(files["activations"])], ["--candidate", "math:sin"]))
    words += other if rng.random() < 0.95 else []
    words += rng.choice((["--names", str(files["names"])], []))
    if rng.random() < 0.2:
        words += rng.choice((["--layout-of-weights", string(rng, "official")],
            ["--dtype", string(rng, "float64")], ["--seed", str(integer(rng))]))  # fmt: skip
    return ["compare", *words]


def right_weights() -> bytes:
    """Return a valid file of weights."""
    header, data = described(weights(), {})
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def _vectors(rng: random.Random, folder: Path) -> list[str]:
    given = folder / hostile_name(rng, "v")
    given.mkdir()
    for name, data in vectors().items():
        (given / name).write_bytes(data)
    results = folder / hostile_name(rng, "r")
    if rng.random() < 0.5:
        special_file(rng, results)
    else:
        results.mkdir()
        name = string(rng)[:50].replace("/", "").replace("\0", "") or "x"
        (results / f"{name.encode('utf-8', 'ignore').decode()}.npz").touch()
    junit = rng.choice(([], [], ["--junit", str(folder / "j.xml")], ["--junit", "/dev/null"]))
    words = [
        rng.choice(("check", "check", "check", string(rng, "check"))),
        str(given),
        str(results),
    ]
    some = rng.choice(([], [], ["--formula", string(rng, "softmax")], ["--json"]))
    return ["vectors", *words, *junit, *some]


def _nothing(rng: random.Random, _: Path) -> list[str]:
    return [string(rng, rng.choice(("cost", "--help", "--version", "verify")))[:1000]
            for _ in range(rng.randrange(4))]  # fmt: skip


_COMMANDS: tuple[Callable[[random.Random, Path], list[str]], ...] = (
    _cost, _cost, _cost, _verify, _verify, _compare, _compare, _vectors, _nothing,
)  # fmt: skip


@target("commands", warnings=(BFLOAT16,), share=2.0)
def commands(rng: random.Random, folder: Path) -> Case:
    """Make up a command line, and the files that it names."""
    arguments = rng.choice(_COMMANDS)(rng, folder)
    return Case(lambda: run(arguments))


def run(arguments: list[str]) -> str:
    """Run a command; raise WrongError if what it prints or returns is not as it should be."""
    out, err = StringIO(), StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments)
        except SystemExit as error:  # of --help and --version
            if error.code != 0 or not {"-h", "--help", "--version"} & set(arguments):
                raise
            return "help"
    for name, text in (("output", out.getvalue()), ("error", err.getvalue())):
        obeyed = next((x for x in text if not (x.isprintable() or x == "\n")), "")
        if obeyed:
            raise WrongError(f"{name} with {obeyed!r}: {text[:200]!r} of {arguments}"[:900])
    errors = err.getvalue().splitlines()
    if status == 2 and not out.getvalue():
        if len(errors) != 1 or not errors[0].startswith("vtnp: ") or len(errors[0]) < 12:
            raise WrongError(
                f"status 2 without one line that says why: {errors} of {arguments}"[:900]
            )
        if len(errors[0]) > 1500:
            raise WrongError(f"a line of {len(errors[0])} characters of {str(arguments)[:300]}")
    elif errors or status not in (0, 1, 2):
        raise WrongError(f"status {status}, error output {errors}")
    return f"status {status}"
