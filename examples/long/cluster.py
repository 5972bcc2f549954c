"""The same task graph on the workers of dask.distributed."""

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
from distributed import Client, KilledWorker, LocalCluster, futures_of, progress
from long.arrays import peak_memory
from long.errors import BadInputError

MEMORY = "1.5GB"  # of a worker; two of them and the scheduler stay below 4 GB
# A worker of distributed hands every large array's memory back at once, and asks for it again: the
# arrays of one segment after the other then take longer to get than to compute.
_MALLOC = {
    f"distributed.nanny.pre-spawn-environ.MALLOC_{name}_THRESHOLD_": 2**26
    for name in ("MMAP", "TRIM")
}
# Ctrl-C reaches all processes of a terminal; it is for the first of them to stop the others.
_DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
_PATIENCE = 120.0  # seconds, to see a worker die


@contextmanager
def connected(address: str, workers: int, folder: Path) -> Iterator[Client]:
    """Connect to a scheduler; to one of our own, with worker processes, where none is named."""
    with tempfile.TemporaryDirectory() as scratch:
        if address:
            with _elsewhere(address) as client, client.as_current():
                _prepare(client, _zipped(scratch), folder)
                yield client
            return
        with (
            dask.config.set(_MALLOC | {"temporary-directory": scratch}),
            LocalCluster(
                n_workers=workers, threads_per_worker=1, memory_limit=MEMORY, preload=[_DEAF],
                dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster, set_as_default=False) as client,
            client.as_current(),
        ):  # fmt: skip
            yield client


def _elsewhere(address: str) -> Client:
    try:
        # A default would stay behind where nobody answers.
        return Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        told = "no scheduler answers" if isinstance(error, OSError) else str(error)
        raise BadInputError(f"--cluster {address}: {told}") from None


def _prepare(client: Client, modules: str, folder: Path) -> None:
    """Give workers that were started elsewhere what they lack; complain where that is more."""
    try:
        client.upload_file(modules)
    except ImportError as error:
        raise BadInputError(f"--cluster: its scheduler or workers: {error}") from None
    sees = client.run(_sees, str(folder))
    blind = [worker for worker in sees if not sees[worker]]
    if not sees or blind:
        told = f"{blind[0]}: there is no folder {folder}" if blind else "it has no workers"
        raise BadInputError(f"--cluster: {told}")


def _sees(folder: str) -> bool:
    return Path(folder).is_dir()


def _zipped(folder: str) -> str:
    """Pack this folder, for workers that were started elsewhere and have vtnp alone."""
    here, path = Path(__file__).parent, Path(folder, "vtnp_long.zip")
    with zipfile.ZipFile(path, "w") as file:
        # Where vtnp is missing, it is better missed now: a scheduler without it never answers.
        file.writestr(f"{here.name}/__init__.py", "import vtnp\n")
        for module in here.glob("*.py"):
            file.write(module, f"{here.name}/{module.name}")
    return str(path)


def computed(client: Client, counts: da.Array, *, kill: bool) -> int:
    """Compute what is planned, and show how far it is; return the sum."""
    try:
        futures = futures_of(client.persist(counts))
        killed: SimpleQueue[str] = SimpleQueue()
        if kill:
            half = futures[len(futures) // 2]
            half.add_done_callback(lambda _: killed.put(_without_one(client)))
        progress(futures, notebook=False, interval="500ms")
        if kill:
            victim = killed.get(timeout=_PATIENCE)
            print(f"\nthe worker {victim} was killed midway")
        return int(np.sum(client.gather(futures)))
    except (ImportError, KilledWorker, MemoryError, OSError) as error:
        raise BadInputError(f"--cluster: {' '.join(str(error).split())}") from error


def _without_one(client: Client) -> str:
    """Kill a worker, as the system kills one that is out of memory; return its address."""
    victim = min(client.scheduler_info()["workers"])
    client.run(_end, workers=[victim], wait=False)
    while victim in client.scheduler_info()["workers"]:
        time.sleep(0.05)
    return victim


async def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def peaks(client: Client) -> list[int]:
    """Return the most bytes that each worker has held."""
    return list(client.run(peak_memory).values())
