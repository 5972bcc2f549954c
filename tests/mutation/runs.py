"""Runs mutants in copies of the project, remembers what became of each, and writes the table."""

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import Any, NamedTuple, Self

from tests.mutation.mutants import Mutant
from tests.mutation.selection import SelectedTests

SERVER = Path(__file__).with_name("server.py")
_NO_TESTS = 5  # pytest's status
_COPIED = (
    "vtnp", "tests", "spec", "examples", "pyproject.toml", "LICENSE", "README.md",
    "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md",
)  # fmt: skip


class Outcome(NamedTuple):
    """What became of a mutant: killed, survived, equivalent or broken (its tests fail anyway)."""

    mutant: Mutant
    fate: str
    by: str = ""  # the test that failed, or why none could
    cpu: float = 0.0


@dataclass
class Runner:
    """Runs the tests of mutants in `jobs` copies of a project.

    packages: what is copied. cache: the file that remembers; None for none. limit: seconds of CPU
    after which a test counts as failed. failing: tests found to fail without a mutant as well.
    """

    root: Path
    scratch: Path
    jobs: int = 1
    packages: Sequence[str] = _COPIED
    cache: Path | None = None
    limit: float = 40.0
    known: dict[str, list[Any]] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    _passing: dict[tuple[str, ...], bool] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _copies: "Queue[_Copy]" = field(default_factory=Queue)

    def __enter__(self) -> Self:
        copies = [_Copy(self.root, self.scratch / str(i), self.packages) for i in range(self.jobs)]
        self._server = _started(copies, sorted(imported(self.root, self.packages)))
        for copy in copies:
            self._copies.put(copy)
        if self.cache is not None and self.cache.exists():
            self.known = json.loads(self.cache.read_text())
        return self

    def __exit__(self, *_: object) -> None:
        while not self._copies.empty():
            self._copies.get().close()
        self._server.wait()

    def outcomes(self, planned: Iterable[tuple[Mutant, SelectedTests]]) -> Iterator[Outcome]:
        """Yield what becomes of each mutant, in their order."""
        with ThreadPoolExecutor(self.jobs) as pool:
            yield from pool.map(lambda pair: self._outcome(*pair), planned)

    def _outcome(self, mutant: Mutant, tests: SelectedTests) -> Outcome:
        key = self._key(mutant, tests)
        if key in self.known:
            return Outcome(mutant, *self.known[key])
        if not tests.args:
            return Outcome(mutant, "survived", "no test belongs to it")
        try:
            ast.parse(mutant.of((self.root / mutant.module).read_text()))
        except SyntaxError as error:
            return Outcome(mutant, "broken", f"no Python: {error}")
        copy = self._copies.get()
        try:
            answer = self._answer(copy, mutant, tests)
            while answer["status"] and not self._passes(copy, tests, answer):
                if "::" not in answer["test"]:
                    by = f"fails unmutated: {answer['test'] or tests.args}"
                    return Outcome(mutant, "broken", by, answer["cpu"])
                self.failing.add(answer["test"])  # left out from now on
                answer = self._answer(copy, mutant, tests)
        finally:
            self._copies.put(copy)
        by = answer["test"] or f"status {answer['status']}"
        fate, by = ("killed", by) if answer["status"] else ("survived", "")
        outcome = Outcome(mutant, fate, by, answer["cpu"])
        self._remember(key, outcome)
        return outcome

    def _answer(self, copy: "_Copy", mutant: Mutant, tests: SelectedTests) -> dict[str, Any]:
        with copy.mutated(mutant):
            return copy.run(tests, self.limit, sorted(self.failing))

    def _passes(self, copy: "_Copy", tests: SelectedTests, answer: dict[str, Any]) -> bool:
        """Whether what failed does not without the mutant."""
        if answer["status"] == _NO_TESTS:
            return False
        test = answer["test"]
        args = (test,) if "::" in test else ("--collect-only", test or tests.args[0])
        if args not in self._passing:
            of_test = copy.run(SelectedTests(args, tests.formulas), self.limit)
            self._passing[args] = of_test["status"] in {0, _NO_TESTS}
        return self._passing[args]

    def _key(self, mutant: Mutant, tests: SelectedTests) -> str:
        """Name a mutant by its function's source, and the tests by their files."""
        where = _source_at(self.root, mutant.module, mutant.where)
        parts = mutant.module, mutant.where, where, mutant.change, str(mutant.start - where[1])
        digests = [_digest(self.root, arg.partition("::")[0]) for arg in tests.args]
        text = json.dumps([parts[0], parts[1], where[0], *parts[3:], tests, digests])
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def _remember(self, key: str, outcome: Outcome) -> None:
        with self._lock:
            self.known[key] = list(outcome[1:])
            if self.cache is not None:
                part = self.cache.with_suffix(".part")
                part.write_text(json.dumps(self.known))
                part.replace(self.cache)


@cache
def _source_at(root: Path, module: str, where: str) -> tuple[str, int]:
    """Return the source of the definition around a place, and at which byte it begins."""
    source = (root / module).read_text()
    name = where.partition(".")[0]
    for node in ast.parse(source).body:
        if getattr(node, "name", None) == name:
            lines = source.encode().splitlines(keepends=True)
            return ast.unparse(node), len(b"".join(lines[: node.lineno - 1]))
    return source, 0


@cache
def _digest(root: Path, path: str) -> str:
    files = sorted((root / path).rglob("*.py")) if (root / path).is_dir() else [root / path]
    return hashlib.sha256(b"".join(each.read_bytes() for each in files)).hexdigest()


def imported(root: Path, packages: Iterable[str]) -> set[str]:
    """Return the modules of others that any file of a project imports."""
    found: set[str] = set()
    for package in packages:
        for path in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {each.name for each in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module)
    own = {package.partition(".")[0] for package in packages}
    return {name for name in found if name.partition(".")[0] not in own | sys.stdlib_module_names}


class _Copy:
    """A copy of the project, and the pipes to its server."""

    def __init__(self, root: Path, path: Path, packages: Sequence[str]) -> None:
        self.path = path
        path.mkdir(parents=True)
        for name in packages:
            if (root / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(root / name, path / name, ignore=ignored)
            elif (root / name).exists():
                shutil.copy(root / name, path / name)
        self.reading, requests = os.pipe()
        answers, self.writing = os.pipe()
        self._requests, self._answers = os.fdopen(requests, "w"), os.fdopen(answers)

    def run(
        self, tests: SelectedTests, limit: float, without: Sequence[str] = ()
    ) -> dict[str, Any]:
        request = {**tests._asdict(), "limit": limit, "without": without}
        print(json.dumps(request), file=self._requests, flush=True)
        answer: dict[str, Any] = json.loads(self._answers.readline())
        return answer

    def mutated(self, mutant: Mutant) -> "_Mutated":
        return _Mutated(self.path / mutant.module, mutant)

    def close(self) -> None:
        self._requests.close()
        self._answers.read()  # until the server has ended
        self._answers.close()
        shutil.rmtree(self.path)


def _started(copies: Sequence[_Copy], modules: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start the server of all copies; it alone keeps the other ends of the pipes."""
    places = [[str(copy.path), copy.reading, copy.writing] for copy in copies]
    # Bytecode is kept, so that only what was mutated is compiled and rewritten again; options
    # that pytest was given here may ask for plugins that are not loaded there.
    left_out = {"PYTHONDONTWRITEBYTECODE", "PYTEST_ADDOPTS"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    environment |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    ends = [end for copy in copies for end in (copy.reading, copy.writing)]
    server = subprocess.Popen(
        [sys.executable, "-P", SERVER, json.dumps(places), *modules],
        cwd=copies[0].path, env=environment, pass_fds=ends,
    )  # fmt: skip
    for end in ends:
        os.close(end)
    return server


# Python knows bytecode by the time of its source, in seconds: each mutant has another.
_times = count(1_000_000_000)


class _Mutated:
    """A file that is a mutant's within a `with` block."""

    def __init__(self, path: Path, mutant: Mutant) -> None:
        self._path, self._mutant = path, mutant
        self._source, self._stat = path.read_text(), path.stat()

    def __enter__(self) -> None:
        self._path.write_text(self._mutant.of(self._source))
        time = next(_times)
        os.utime(self._path, (time, time))

    def __exit__(self, *_: object) -> None:
        self._path.write_text(self._source)
        os.utime(self._path, ns=(self._stat.st_atime_ns, self._stat.st_mtime_ns))
