r"""TeX of the pages written as plain text, for terminals: $1/\sqrt{d_h}$ becomes 1/sqrt(d_h)."""

import re
from collections.abc import Callable, Mapping

_ATOM = re.compile(r"[\w']+|-?\d+(\.\d+)?")
# Commands before a single letter or digit, whose braces TeX lets one leave out.
_BRACES_LEFT_OUT = re.compile(r"\\(sqrt|tilde|hat|bar|overline)\s*([A-Za-z0-9]|\\[A-Za-z]+)")
_DIGITS_OF_FRACTION = re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)")
_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_ARGUMENT = re.compile(r"\\([A-Za-z]+)\{([^{}]*)\}")
_SCRIPT = re.compile(r"([\^_])\{([^{}]*)\}")
_GROUP = re.compile(r"\{([^{}]*)\}")
_COMMANDS: Mapping[str, Callable[[str], str]] = {
    "sqrt": lambda x: f"sqrt({x})",
    "tilde": lambda x: f"{x}~",
    "hat": lambda x: f"{x}^",
    "bar": lambda x: f"mean({x})",
    "overline": lambda x: f"mean({x})",
}
_SYMBOLS: Mapping[str, str] = {
    "times": "x", "cdot": "*", "le": "<=", "ge": ">=", "ne": "!=", "approx": "~", "infty": "inf",
    "dots": "...", "ldots": "...", "bmod": "mod", "varepsilon": "eps", "vert": "|", "mid": "|",
    "notin": "not in", "quad": " ", "qquad": " ", "left": "", "right": "", "big": "", "Big": "",
}  # fmt: skip
_OPENING = re.compile(r"(?<=([A-Za-z0-9)]))?\\(langle|lceil|lfloor)\s*")
_OPEN = {"langle": "<", "lceil": "ceil(", "lfloor": "floor("}
_CLOSING = re.compile(r"\s*\\(rangle|rceil|rfloor)")
_NAME = re.compile(r"(?<=([A-Za-z0-9)]))?\\([A-Za-z]+)")
_SPACE = re.compile(r"\\[,;: ]")


def plain_math(text: str) -> str:
    """Write all formulas between dollar signs as plain text."""
    return re.sub(r"\$([^$]+)\$", lambda found: _plain(found[1]), text)


def _plain(tex: str) -> str:
    tex = _SPACE.sub(" ", tex.replace(r"\!", "").replace(r"\|", "|"))
    tex = re.sub(r"\\([{}])", lambda found: "()"["{}".index(found[1])], tex)
    tex = _DIGITS_OF_FRACTION.sub(r"\1/\2", tex)
    tex = _BRACES_LEFT_OUT.sub(r"\\\1{\2}", tex)
    before = ""
    while before != tex:  # from the innermost braces outwards
        before = tex
        tex = _FRACTION.sub(lambda x: f"{_closed(x[1])}/{_closed(x[2])}", tex)
        tex = _SCRIPT.sub(lambda x: f"{x[1]}{_closed(x[2])}", tex)
        tex = _ARGUMENT.sub(lambda x: _COMMANDS.get(x[1], str)(x[2]), tex)
    tex = _GROUP.sub(r"\1", tex)
    tex = _OPENING.sub(lambda found: " " * bool(found[1]) + _OPEN[found[2]], tex)
    tex = _CLOSING.sub(lambda found: ">" if found[1] == "rangle" else ")", tex)
    tex = _NAME.sub(lambda found: " " * bool(found[1]) + _SYMBOLS.get(found[2], found[2]), tex)
    return " ".join(tex.split())


def _closed(x: str) -> str:
    """Put in brackets what is not a single name or number."""
    x = x.strip()
    return x if _ATOM.fullmatch(x) else f"({x})"
