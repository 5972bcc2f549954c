"""Hostile input led by coverage: python -m tests.fuzz.guided TARGET [OPTIONS OF LIBFUZZER].

    pip install atheris
    python -m tests.fuzz.guided npz -max_total_time=600 runs/fuzz/npz
    python -m tests.fuzz.guided npz crash-...              one input again

The last argument is a folder in which inputs are kept that reach new code; a further run begins
with them. An input is a string of bytes, out of which the target makes its choices; one that ends
in what it must not is written to a file, and its outcome is printed.
"""

import random
import sys
import tempfile
from pathlib import Path

_FIRST, _LENGTH = 50, 2000  # inputs to begin with, and their bytes at most


class Choices(random.Random):
    """A generator whose numbers are those of given bytes, and then zeros."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data, self._begin = data, 0

    def getrandbits(self, k: int, /) -> int:
        """Return the next k bits."""
        size = (k + 7) // 8
        taken = self._data[self._begin : self._begin + size].ljust(size, b"\0")
        self._begin += size
        return int.from_bytes(taken, "little") >> (8 * size - k)

    def random(self) -> float:
        """Return a fraction out of the next 53 bits."""
        return self.getrandbits(53) * 2.0**-53


def main() -> None:
    """Run the command line; it ends at the first outcome that is wrong."""
    import atheris

    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["vtnp"]):
        from tests.fuzz import targets
        from tests.fuzz.judging import outcome

        target = targets()[name]

    def one_input(data: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
            case = target.make(Choices(data), Path(folder))
            found = outcome(target, case, Path(folder))
        if found.wrong:
            raise AssertionError(ascii(found))

    one_input(b"")  # imports on first use are not the fault of a case
    for folder in (Path(each) for each in options if Path(each).is_dir()):
        for i in range(0 if any(folder.iterdir()) else _FIRST):
            (folder / f"random-{i}").write_bytes(random.Random(i).randbytes(_LENGTH))
    # Memory is judged here, and inputs are long from the beginning, as the choices are many.
    given = ["-rss_limit_mb=0", "-len_control=0", f"-max_len={_LENGTH}"]
    atheris.Setup([sys.argv[0], *given, *options], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
