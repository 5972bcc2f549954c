"""The same task graph on the workers of dask.distributed."""

import logging
import os
import signal
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from distributed import Client, Future, KilledWorker, LocalCluster, futures_of, progress
from long.arrays import peak_memory

MEMORY = "1.5GB"  # of a worker; two of them and the scheduler stay below 4 GB
# A worker of distributed hands every large array's memory back at once, and asks for it again: the
# arrays of one segment after the other then take longer to get than to compute.
_KEPT = {
    f"distributed.nanny.pre-spawn-environ.MALLOC_{name}_THRESHOLD_": 2**26
    for name in ("MMAP", "TRIM")
}


class ClusterError(Exception):
    """What the cluster cannot do; the message is one line."""


@contextmanager
def connected(address: str, workers: int) -> Iterator[Client]:
    """Connect to a scheduler; to one of our own, with worker processes, where none is named."""
    with tempfile.TemporaryDirectory() as scratch:
        if address:
            try:
                client = Client(address, timeout="10s")
            except (OSError, ValueError) as error:
                told = "no scheduler answers" if isinstance(error, OSError) else str(error)
                raise ClusterError(f"{address}: {told}") from None
            with client:
                client.upload_file(_zipped(scratch))
                yield client
            return
        with (
            dask.config.set(_KEPT),
            LocalCluster(
                n_workers=workers, threads_per_worker=1, memory_limit=MEMORY,
                local_directory=scratch, dashboard_address=None, silence_logs=logging.CRITICAL,
            ) as cluster,
            Client(cluster) as client,
        ):  # fmt: skip
            yield client


def _zipped(folder: str) -> str:
    """Pack this folder, for workers that were started elsewhere and have vtnp alone."""
    here, path = Path(__file__).parent, Path(folder, "vtnp_long.zip")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{here.name}/__init__.py", "")
        for module in here.glob("*.py"):
            file.write(module, f"{here.name}/{module.name}")
    return str(path)


def computed(client: Client, counts: da.Array, folder: Path, *, kill: bool) -> int:
    """Compute what is planned, and show how far it is; return the sum."""
    try:
        blind = [worker for worker, sees in client.run(_sees, str(folder)).items() if not sees]
        if blind:
            raise ClusterError(f"{', '.join(blind)}: there is no folder {folder}")
        futures = futures_of(client.persist(counts))
        if kill:
            futures[len(futures) // 2].add_done_callback(_end_a_worker)
        progress(futures, notebook=False, interval="500ms")
        return int(np.sum(client.gather(futures)))
    except (ImportError, KilledWorker, MemoryError, OSError) as error:
        raise ClusterError(" ".join(str(error).split())) from error


def _sees(folder: str) -> bool:
    return Path(folder).is_dir()


def _end_a_worker(future: Future) -> None:
    victim = min(future.client.scheduler_info()["workers"])
    (pid,) = future.client.run(os.getpid, workers=[victim]).values()
    print(f"\nkilling the worker {victim}, process {pid}", file=sys.stderr)
    future.client.run(_end, workers=[victim], wait=False)


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def peaks(client: Client) -> list[int]:
    """Return the most bytes that each worker has held."""
    return list(client.run(peak_memory).values())
