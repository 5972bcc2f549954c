"""Numbers as a person reads them."""

_STEPS = ("", "kilo", "mega", "giga", "tera", "peta", "exa", "zetta", "yotta")


def whole(n: int) -> str:
    """Write a whole number with a space between thousands."""
    return f"{n:,}".replace(",", " ")


def rounded(n: float) -> str:
    """Write a large number with four digits."""
    return whole(int(n)) if n == int(n) and abs(n) < 10**6 else f"{n:.3e}"


def in_bytes(n: int) -> str:
    """Write an amount of memory, its unit spelt out: "1.5 gigabytes", which is 1.5 * 10^9 bytes."""
    step = min((len(str(n)) - 1) // 3, len(_STEPS) - 1)
    return f"{whole(n)} bytes" if step == 0 else f"{n / 1000**step:.4g} {_STEPS[step]}bytes"


def in_seconds(t: float) -> str:
    """Write a time, its unit spelt out."""
    for unit, size in (("seconds", 1.0), ("milliseconds", 1e-3), ("microseconds", 1e-6)):
        if t >= size:
            return f"{t / size:.3g} {unit}"
    return f"{t / 1e-9:.3g} nanoseconds" if t >= 1e-10 else f"{t / 1e-12:.3g} picoseconds"


def table(rows: list[tuple[str, ...]], *, left: int = 1) -> str:
    """Write rows under each other, the first columns from the left and the others from the right.

    left: how many are written from the left.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
