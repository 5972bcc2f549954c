"""Hostile videos, options and names: frames or a VideoError, and nothing else."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests import fuzz
from tests.fuzz import video as _  # noqa: F401 - it defines the targets
from tests.fuzz.judging import Outcome
from tests.fuzz.running import Found, faults, plan

NAMES = ("video", "video names", "video options")
# Without the other targets, whose imports take longer than the cases.
_PROGRAM = """
import json
import sys
from tests import fuzz
from tests.fuzz import video, worker
worker.targets = lambda: fuzz._targets
worker.main(int(sys.argv[1]), 0, json.load(sys.stdin))
"""


def read(seed, cases):
    """Return what becomes of cases that are read in a process of their own."""
    chosen = plan([fuzz._targets[name] for name in NAMES], cases)
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(seed)],
        input=json.dumps(chosen), capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    lines = run.stdout.splitlines()
    found = [
        Found(*case, Outcome(*json.loads(line))) for case, line in zip(chosen, lines, strict=False)
    ]
    assert run.returncode == 0, f"{chosen[len(lines)]} ended the process: {run.stderr[-2000:]}"
    assert len(found) == len(chosen)
    return found


def outcomes(found):
    """Return how often each reader read a video, and how often an error said why not."""
    return Counter(each.outcome.kind for each in found if each.target == "video")


KINDS = {"VideoError", "UntraceableError", "frames", "coded", "copy"}


def test_hostile_videos():
    found = read(0, 800)
    assert faults(found, 0) == ""
    assert set(outcomes(found)) == KINDS
    # Most cases are broken; of the others each reader has some.
    assert min(outcomes(found).values()) > 8
    assert {each.target for each in found} == set(NAMES)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(1, 4))
def test_more_hostile_videos(seed):
    found = read(seed, 3000)
    assert faults(found, seed) == ""
    assert set(outcomes(found)) == KINDS
