"""The lowest versions that CI installs are those that pyproject.toml asks for."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_lowest_versions_are_tested():
    asked_for = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = (ROOT / ".ci" / "lowest.txt").read_text().splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert pinned == [each.replace(">=", "==") for each in asked_for]
