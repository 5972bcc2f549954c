"""Where candidates have our quantities: tables of names, ours and those that users write.

A line says which module of theirs, what of it, which quantity of ours, and how its axes lie:

    encoder.layer.{i}.temporal_layernorm = layers.{i}.time.norm_1 : (b s) t d -> b t s d
    encoder.layer.{i}.attn.proj:in = layers.{i}.read : b n[1:] (heads d_h) -> b heads n d_h

After a module's name, ":in" is its first argument, ":1" the second of its results, and nothing its
result. Axes are written as in einops; "n[1:]" are the entries behind the first, "n[0]" the first
alone, "n[mean]" their mean, and the same of an axis in brackets, "(s t)[1:]". Without axes theirs
lie as ours. Two lines are not about modules: "input = b t h w c -> b t c h w" says how the
candidate takes the clip, the same in brackets that it takes a list of it, "input = [b t ... ]", and
"call = encoder" which of its modules is called.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from vtnp._registry.errors import UsageError


class Name(NamedTuple):
    """One line: a module of theirs, what of it, our quantity, and the axes."""

    theirs: str
    port: str
    ours: str
    axes: str

    def at(self, i: str) -> "Name":
        """Return the line of layer i."""
        return self._replace(theirs=self.theirs.replace("{i}", i), ours=self.ours.replace("{i}", i))

    def matches(self, module: str) -> str | None:
        """Return the number of the layer where the module is meant, "" where none is needed."""
        front, number, back = self.theirs.partition("{i}")
        if not number:
            return "" if module == front else None
        found = re.fullmatch(rf"{re.escape(front)}(\d+){re.escape(back)}", module)
        return found[1] if found else None


@dataclass(frozen=True)
class Names:
    """A table. input, call: as the module says; "" for the clip as it is, and the whole model.

    in_list: whether the candidate takes a list of the clip.
    """

    lines: tuple[Name, ...]
    input: str = ""
    call: str = ""
    prefixes: tuple[str, ...] = ()
    in_list: bool = False

    def short(self, name: str) -> str:
        """Take off a name what only some of the candidates have before theirs."""
        for prefix in self.prefixes:
            name = name.removeprefix(prefix)
        return name


def read(text: str, where: str, usual: Names) -> Names:
    """Read a table; what it does not say of input and call is as usual. Raises UsageError."""
    lines, others = [], {"input": usual.input, "call": usual.call}
    for number, line in enumerate(text.splitlines(), 1):
        said = line.partition("#")[0].strip()
        if not said:
            continue
        theirs, equals, rest = (part.strip() for part in said.partition("="))
        if not (theirs and equals and rest):
            raise UsageError(f"{where}, line {number}: THEIRS = OURS is meant, not {said!r}")
        if theirs in others:
            others[theirs] = rest
            continue
        module, _, port = theirs.partition(":")
        ours, _, axes = (part.strip() for part in rest.partition(":"))
        if port not in ("", "in") and not port.isdigit():
            raise UsageError(f"{where}, line {number}: {port!r} is neither 'in' nor a number")
        lines.append(Name(usual.short(module), port, ours, axes))
    if not lines:
        raise UsageError(f"{where}: it has no line THEIRS = OURS")
    pattern = others["input"]
    in_list = pattern.startswith("[") and pattern.endswith("]")
    bare = pattern[1:-1].strip() if in_list else pattern
    return Names(
        tuple(lines),
        bare,
        others["call"],
        usual.prefixes,
        in_list or (usual.in_list and bare == usual.input),
    )
