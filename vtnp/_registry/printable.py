"""Text from elsewhere, such as names in files and messages of candidates, fit to be printed."""


def printable(text: object, *, lines: bool = False, encoding: str = "utf-8") -> str:
    r"""Escape each character that a terminal would obey or an encoding lacks: \x1b, \u202e, \udcff.

    lines: whether line feeds and tabs are kept. encoding: of the terminal.
    """
    kept = "\n\t" if lines else ""
    shown = "".join(
        each if each.isprintable() or each in kept else each.encode("unicode_escape").decode()
        for each in str(text)
    )
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def shortened(text: object, most: int) -> str:
    """Leave out the middle of a text that is longer than `most` characters."""
    text = str(text)
    if len(text) <= most:
        return text
    end = (most - 3) // 3
    return f"{text[: most - 3 - end]}...{text[len(text) - end :]}"
