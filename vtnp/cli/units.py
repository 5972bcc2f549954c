"""Numbers, amounts of memory, times and tables, as text."""

_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


def exact(n: int) -> str:
    """Return an integer with commas between thousands."""
    return f"{n:,}"


def rounded(n: float) -> str:
    """Return a number with four digits, an integer below a million in full."""
    return exact(int(n)) if n == int(n) and abs(n) < 10**6 else f"{n:.3e}"


def in_bytes(n: int) -> str:
    """Return an amount of memory: "1.5 GB", which is 1.5 * 10^9 bytes."""
    step = min((len(str(n)) - 1) // 3, len(_PREFIXES) - 1)
    return f"{n} B" if step == 0 else f"{n / 1000**step:.4g} {_PREFIXES[step]}B"


def in_seconds(t: float) -> str:
    """Return a time: "1.5 ms"."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if t >= size:
            return f"{t / size:.3g} {unit}"
    return f"{t / 1e-9:.3g} ns" if t >= 1e-10 else f"{t / 1e-12:.3g} ps"


def table(rows: list[tuple[str, ...]], *, align: str) -> str:
    """Return rows as text in columns.

    align: for each column "<" to align it to the left, ">" to the right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)
        ).rstrip()
        for row in rows
    )
