"""Hostile input ends as documented; and whatever does not is found."""

import gc
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import HARM, Case, Target, WrongError, generator, judging, mutations, targets
from tests.fuzz.guided import Choices
from tests.fuzz.running import Found, faults, plan, run, table
from vtnp.checkpoints import FileError

SHORT, SEED = 300, 0
OURS = {"checkpoint", "commands", "export", "npz", "safetensors", "vectors"}


def assert_right(cases):
    found = list(run(SEED, plan(list(targets().values()), cases)))
    print(table(found))
    wrong = [each for each in found if each.outcome.wrong]
    assert not wrong, faults(found, SEED)
    assert len(found) >= cases
    kinds = {name: Counter() for name in targets()}
    for each in found:
        kinds[each.target][each.outcome.kind] += 1
    # Both sides of every border: some input is read, some refused.
    for name in ("npz", "safetensors", "checkpoint"):
        assert kinds[name]["value"]
        assert kinds[name]["FileError"]
    assert {"status 0", "status 1", "status 2"} <= kinds["commands"].keys()
    assert {"right", "wrong", "FileError", "UsageError"} <= kinds["vectors"].keys()
    assert {"LayoutError"} <= kinds["npz"].keys()
    return kinds


@pytest.mark.timeout(600)
def test_hostile_input_ends_as_documented():
    kinds = assert_right(SHORT)
    assert kinds.keys() >= OURS


@pytest.mark.deep
@pytest.mark.timeout(3600)
def test_much_hostile_input_ends_as_documented():
    kinds = assert_right(2000)
    assert kinds.keys() >= OURS


# --- The frame finds what is wrong ----------------------------------------------------------------


def outcome(read, folder, *, errors=(FileError,), warnings=(), files=()):
    target = Target("made up", lambda *_: Case(read, files), errors, warnings, 1.0)
    return judging.judged(target, 0, 0, folder)


def raises(error):
    def read():
        raise error

    return read


def test_a_value_and_a_documented_error_are_right(tmp_path):
    path = tmp_path / "x"
    assert outcome(lambda: 3, tmp_path)[:3] == ("value", "", False)
    assert outcome(lambda: "exit 2", tmp_path)[:3] == ("exit 2", "", False)
    found = outcome(raises(FileError(f"{path}: broken")), tmp_path, files=(path,))
    assert found[:3] == ("FileError", f"{path}: broken", False)


class FileProblemError(ValueError):
    """A documented error that checks nothing of its message."""


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ("", "no message"),
        ("{}: \x1b[31mred", "characters that a terminal obeys"),
        ("{}: two\nlines", "characters that a terminal obeys"),
        ("{}: " + "x" * 2000, "a line without end"),
        ("broken", "names no file"),
        ("{}: ", "gives no reason"),
        ("{}", "gives no reason"),
        ("{}: bad .npz: ", "gives no reason"),
    ],
)
def test_a_message_that_says_too_little_or_too_much_is_wrong(tmp_path, message, complaint):
    path = tmp_path / "x"
    error = FileProblemError(message.format(path))
    found = outcome(raises(error), tmp_path, errors=(FileProblemError,), files=(path,))
    assert found.wrong
    assert found.kind == f"FileProblemError: {complaint}"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("x"), "KeyError"),
        (MemoryError(), "MemoryError"),
        (RecursionError("deep"), "RecursionError"),
        (SystemExit(2), "SystemExit"),
        (WrongError("as the target says"), "wrong"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "bad"), "UnicodeDecodeError"),
    ],
)
def test_other_errors_are_wrong(tmp_path, error, kind):
    found = outcome(raises(error), tmp_path)
    assert found.wrong
    assert found.kind == kind


def test_a_panic_of_another_language_is_wrong(tmp_path):
    class PanicException(BaseException):
        pass

    assert outcome(raises(PanicException("index")), tmp_path)[:3] == (
        "PanicException",
        "index",
        True,
    )
    with pytest.raises(KeyboardInterrupt):
        outcome(raises(KeyboardInterrupt()), tmp_path)


def test_a_warning_is_wrong_unless_it_is_documented(tmp_path):
    def read():
        warnings.warn("careful", stacklevel=1)

    assert outcome(read, tmp_path).kind == "warning"
    assert outcome(read, tmp_path, warnings=("^careful$",)).kind == "value"
    obeyed = outcome(lambda: warnings.warn("\x1b", stacklevel=1), tmp_path, warnings=("",))
    assert obeyed.kind == "warning"


def test_what_is_printed_below_python_is_wrong(tmp_path):
    found = outcome(lambda: os.write(2, b"libx: error\n"), tmp_path)
    assert (found.kind, found.detail, found.wrong) == ("print", "libx: error\n", True)


def test_too_much_memory_is_wrong(tmp_path):
    gc.collect()

    def read():
        assert len(b"x" * 100_000_000) == 100_000_000

    found = outcome(read, tmp_path)
    assert (found.kind, found.wrong) == ("memory", True)
    assert found.memory > 90_000_000
    assert outcome(lambda: len(b"x" * 1_000_000), tmp_path).kind == "value"


@pytest.mark.parametrize("limit", ["SECONDS", "WAITING"])
def test_too_much_time_is_wrong_even_where_errors_are_caught(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(judging, limit, 0.05)

    def read():
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                if limit == "WAITING":
                    time.sleep(30)
        except Exception:  # noqa: BLE001 - as a reader might
            return "caught"

    timers = (signal.ITIMER_REAL, signal.ITIMER_PROF)
    before = [signal.getitimer(timer)[0] for timer in timers]
    found = outcome(read, tmp_path)
    assert (found.kind, found.wrong) == ("hang", True)
    assert found.seconds < 10
    # Timers that ran before, such as that of the test, run on.
    for timer, left in zip(timers, before, strict=True):
        assert signal.getitimer(timer)[0] == pytest.approx(left, abs=30)
        assert (signal.getitimer(timer)[0] > 0) == (left > 0)


def test_code_that_runs_is_wrong(tmp_path):
    found = outcome((tmp_path / HARM).touch, tmp_path)
    assert (found.kind, found.wrong) == ("code has run", True)


WORKER = """
import os, sys
import tests.fuzz
from tests.fuzz import Case, target, worker

@target("made up")
def made_up(rng, folder):
    return Case({0: lambda: 1, 1: lambda: os._exit(9), 2: lambda: 1}[rng.index])

class Indexed:
    def __init__(self, index):
        self.index = index

worker.targets = lambda: tests.fuzz._targets
import tests.fuzz.judging
tests.fuzz.judging.generator = lambda seed, name, index: Indexed(max(0, index))
import json
worker.main(0, int(sys.argv[1]), json.loads(sys.argv[2]))
"""


def test_a_process_that_dies_is_followed_by_another(monkeypatch):
    right = subprocess.Popen

    def popen(command, **options):
        *_, begin, cases = command
        return right([sys.executable, "-c", WORKER, begin, cases], **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    found = list(run(0, [("made up", i) for i in range(3)]))
    assert [(each.index, each.outcome.kind) for each in found] == [
        (0, "value"), (1, "crash"), (2, "value"),
    ]  # fmt: skip
    assert found[1].outcome.detail == "it ended with status 9"
    assert "--case 'made up:1'" in faults(found, 0)
    assert "made up      3      1" in table(found)


def test_the_command_tells_what_is_wrong(monkeypatch, capsys):
    from tests.fuzz import __main__ as command

    outcomes = [
        judging.Outcome("value", "", False, 0.1, 10**6),
        judging.Outcome("KeyError", "\x1b 'x'", True, 0.2, 3 * 10**6),
    ]
    made = [Found("npz", i, each) for i, each in enumerate(outcomes)]
    monkeypatch.setattr(command, "run", lambda *_: made)
    monkeypatch.setattr(sys, "argv", ["fuzz", "--target", "npz", "--seed", "7"])
    assert command.main() == 1
    out = capsys.readouterr().out
    assert "2 cases, 1 wrong of 1 kinds" in out
    assert "npz: KeyError, 1 times" in out
    assert "python -m tests.fuzz --seed 7 --case npz:1" in out
    assert "\x1b" not in out
    monkeypatch.setattr(command, "run", lambda *_: made[:1])
    assert command.main() == 0


@pytest.mark.parametrize("words", [["--target", "none"], ["--case", "none:3"]])
def test_unknown_targets_are_told(monkeypatch, capsys, words):
    from tests.fuzz import __main__ as command

    monkeypatch.setattr(sys, "argv", ["fuzz", *words])
    with pytest.raises(SystemExit):
        command.main()
    assert "no target none; there are checkpoint, commands" in capsys.readouterr().err


# --- Cases ----------------------------------------------------------------------------------------


def content(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else path.lstat().st_mode
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


@pytest.mark.parametrize("name", ["npz", "safetensors", "checkpoint"])
def test_a_case_is_its_seed_and_number(tmp_path, name):
    made = []
    for i, (seed, index) in enumerate([(0, 5), (0, 5), (0, 6), (1, 5)]):
        folder = tmp_path / f"{i}"
        folder.mkdir()
        targets()[name].make(generator(seed, name, index), folder)
        made.append(content(folder))
    assert made[0] == made[1]
    assert made[0] != made[2]
    assert made[0] != made[3]


def test_cases_are_shared_out():
    chosen = [
        Target(name, lambda *_: None, (), (), x) for name, x in (("a", 3.0), ("b", 1.0), ("c", 0))
    ]
    counts = Counter(name for name, _ in plan(chosen, 400))
    assert counts == {"a": 300, "b": 100, "c": 1}
    assert plan(chosen, 4)[:4] == [("a", 0), ("a", 1), ("a", 2), ("b", 0)]


@pytest.mark.parametrize("kind", mutations._SPECIAL)
def test_what_else_may_be_at_a_path_can_be_made(tmp_path, kind):
    path = tmp_path / ("x" * 30)
    mutations._SPECIAL[kind](path)
    assert (kind == "nothing") != os.path.lexists(path)


def test_names_of_json_may_occur_twice():
    pairs = mutations.Pairs([["a", 1], ["a", mutations.Raw("NaN")], ["b", [None, "\ud800"]]])
    assert mutations.as_json(pairs) == r'{"a": 1, "a": NaN, "b": [null, "\ud800"]}'


def test_changes_change_nearly_always():
    rng, tree = random.Random(0), {"a": [1, "x"], "b": {"c": None}}
    before = mutations.as_json(tree)
    texts = [mutations.as_json(mutations.changed_json(rng, tree)) for _ in range(200)]
    assert mutations.as_json(tree) == before
    assert len({*texts} - {before}) > 150
    data = bytes(range(256))
    changed = [mutations.changed_bytes(rng, data) for _ in range(200)]
    assert len({*changed} - {data}) > 150


@given(st.binary(max_size=200))
def test_bytes_make_choices_that_end(data):
    """As a fuzzer led by coverage makes them: out of any bytes, the same ones every time."""

    def chosen(rng):
        return (
            [rng.randrange(n) for n in (1, 2, 7, 1000, 2**70)],
            rng.choice("abc"),
            rng.random() < 1.0,
            rng.sample(range(9), 3),
            rng.choices("xyz", k=2),
            mutations.changed_bytes(rng, b"content"),
            mutations.as_json(mutations.changed_json(rng, {"a": [1, "b"]})),
        )

    first, again = chosen(Choices(data)), chosen(Choices(data))
    assert first == again
    assert first[2]
    assert chosen(Choices(b""))[0] == [0, 0, 0, 0, 0]
    assert Choices(b"\xff" * 8).random() == 1.0 - 2.0**-53
    assert Choices(b"\x01\x02").getrandbits(9) == 0x0201 >> 7
