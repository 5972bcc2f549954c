"""A report that is whole on disk at any time, and goes on where an earlier run stopped."""

import json
import os
import time
from pathlib import Path
from typing import Any

_EVERY = 1.0  # s between two times that it is written, unless a new task begins


class Report:
    """What each task found, by its name.

    head: what was run on; a report is gone on with only on the same. path: None keeps it in memory.
    """

    def __init__(self, head: dict[str, Any], path: Path | None) -> None:
        self.head, self.path = head, path
        self.tasks: dict[str, dict[str, Any]] = {}
        self.running = ""
        self.ended = ""
        self._written = 0.0

    def resume(self) -> int:
        """Take over what an earlier report has; return the number of its tasks.

        A task that was running when it ended counts as one that has failed. Raises ValueError for
        a report of something else, and OSError where there is none.
        """
        assert self.path is not None
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            tasks, running = dict(found["tasks"]), str(found["running"])
            head = {name: found["head"][name] for name in self.head}
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self.path} is not a report of this script") from error
        for name in ("library", "version", "device"):
            if head[name] != self.head[name]:
                raise ValueError(
                    f"{self.path} is of {name} {head[name]!r}, and this is {self.head[name]!r}"
                )
        if running:
            note = "the run ended while this was running"
            tasks[running] = {"status": "failed", "failed": {"run": note}}
        self.tasks = tasks
        return len(tasks)

    def begin(self, name: str) -> None:
        self.running = name
        self.write()

    def end(self, found: dict[str, Any]) -> None:
        self.tasks[self.running] = found
        self.running = ""
        if time.monotonic() - self._written > _EVERY:
            self.write()

    def close(self, ended: str) -> None:
        """Write it for the last time. ended: how the run did."""
        self.ended, self.running = ended, ""
        self.write()

    @property
    def failed(self) -> dict[str, Any]:
        return {n: x["failed"] for n, x in self.tasks.items() if x["status"] == "failed"}

    def count(self, status: str) -> int:
        return sum(each["status"] == status for each in self.tasks.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "head": self.head,
            "summary": {
                "ended": self.ended or "not yet",
                **{status: self.count(status) for status in ("passed", "failed")},
                "failed_tasks": sorted(self.failed),
                "seconds": round(sum(x.get("seconds", 0.0) for x in self.tasks.values()), 1),
            },
            "running": self.running,
            "tasks": self.tasks,
        }

    def write(self) -> None:
        """Write it beside its place, and move it there."""
        self._written = time.monotonic()
        if self.path is None:
            return
        part = self.path.with_name(f"{self.path.name}.part")
        with part.open("w", encoding="utf-8") as file:
            json.dump(self.as_json(), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.path)
