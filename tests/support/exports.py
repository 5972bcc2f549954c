"""Exports of vectors that compute each formula once."""

from typing import Any


class WrittenOnce:
    """Computes and writes a formula's file once, and then writes the same bytes again.

    written: by formula and seed, the entry of the manifest and the file.
    """

    def __init__(self, write: Any) -> None:
        self._write = write
        self.written: dict[tuple[str, int], tuple[dict[str, Any], bytes]] = {}

    def __call__(self, folder, entry, seed):
        key = entry.id, seed
        if key not in self.written:
            described = self._write(folder, entry, seed)
            self.written[key] = described, (folder / described["file"]).read_bytes()
        described, data = self.written[key]
        (folder / described["file"]).write_bytes(data)
        return described
