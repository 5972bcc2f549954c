"""The task graph on the workers of dask.distributed."""

import logging
import os
import signal
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import dask
import dask.array as da
import numpy as np
from command_line import BadInputError
from distributed import Client, KilledWorker, LocalCluster, futures_of, progress
from long.arrays import peak_memory

MEMORY = "1.5GB"  # of a worker; two of them and the scheduler stay below 4 GB
# By default a worker returns the memory of every large array to the system at once. Allocating it
# again for each segment would take longer than the computation.
_MALLOC = {
    f"distributed.nanny.pre-spawn-environ.MALLOC_{name}_THRESHOLD_": 2**26
    for name in ("MMAP", "TRIM")
}
# Ctrl-C reaches all processes of a terminal; the first of them stops the others.
_IGNORE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
_KILL_TIMEOUT = 120.0  # seconds until a worker must have been killed


@contextmanager
def connected(address: str, workers: int, folder: Path) -> Iterator[Client]:
    """Connect to the scheduler of an address; without one, start workers and a scheduler here."""
    with tempfile.TemporaryDirectory() as scratch:
        if address:
            with _client_of(address) as client, client.as_current():
                _prepare(client, _zipped(scratch), folder)
                yield client
            return
        with (
            dask.config.set(_MALLOC | {"temporary-directory": scratch}),
            LocalCluster(
                n_workers=workers, threads_per_worker=1, memory_limit=MEMORY,
                preload=[_IGNORE_CTRL_C], dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
            client.as_current(),
        ):  # fmt: skip
            yield client


def _client_of(address: str) -> Client:
    try:
        # As a default, the client would remain if no scheduler answers.
        return Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        reason = "no scheduler answers" if isinstance(error, OSError) else str(error)
        raise BadInputError(f"--cluster {address}: {reason}") from None


def _prepare(client: Client, modules: str, folder: Path) -> None:
    """Send our modules to workers that were started elsewhere; check that they see the folder."""
    try:
        client.upload_file(modules)
    except ImportError as error:
        raise BadInputError(f"--cluster: its scheduler or workers: {error}") from None
    has_folder = client.run(_is_folder, str(folder))
    without = [worker for worker in has_folder if not has_folder[worker]]
    if not has_folder or without:
        reason = f"{without[0]}: there is no folder {folder}" if without else "it has no workers"
        raise BadInputError(f"--cluster: {reason}")


def _is_folder(path: str) -> bool:
    return Path(path).is_dir()


def _zipped(folder: str) -> str:
    """Pack our modules, for workers that were started elsewhere and have only vtnp."""
    package, path = Path(__file__).parent, Path(folder, "vtnp_long.zip")
    with zipfile.ZipFile(path, "w") as file:
        # If vtnp is missing, this fails now. Later, a scheduler without it would never answer.
        file.writestr(f"{package.name}/__init__.py", "import vtnp\n")
        file.write(package.parent / "command_line.py", "command_line.py")
        for module in package.glob("*.py"):
            file.write(module, f"{package.name}/{module.name}")
    return str(path)


def computed(client: Client, counts: da.Array, *, kill: bool) -> int:
    """Compute the plan with a progress bar; return the sum of the counts."""
    try:
        futures = futures_of(client.persist(counts))
        killed: SimpleQueue[str] = SimpleQueue()
        if kill:
            half = futures[len(futures) // 2]
            half.add_done_callback(lambda _: killed.put(_kill_one(client)))
        progress(futures, notebook=False, interval="500ms")
        if kill:
            victim = killed.get(timeout=_KILL_TIMEOUT)
            print(f"\nthe worker {victim} was killed midway")
        return int(np.sum(client.gather(futures)))
    except (ImportError, KilledWorker, MemoryError, OSError) as error:
        raise BadInputError(f"--cluster: {' '.join(str(error).split())}") from error


def _kill_one(client: Client) -> str:
    """Kill a worker, as the system does when memory runs out; return its address."""
    victim = min(client.scheduler_info()["workers"])
    client.run(_kill_self, workers=[victim], wait=False)
    while victim in client.scheduler_info()["workers"]:
        time.sleep(0.05)
    return victim


async def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def peaks(client: Client) -> list[int]:
    """Return the peak memory of each worker in bytes."""
    return list(client.run(peak_memory).values())
