"""Tables that say where a candidate has our quantities: those of vtnp, and those of users.

A line says which module of the candidate, which of its values, which quantity of ours, and how its
axes are ordered:

    encoder.layer.{i}.temporal_layernorm = layers.{i}.time.norm_1 : (b s) t d -> b t s d
    encoder.layer.{i}.attn.proj:in = layers.{i}.read : b n[1:] (heads d_h) -> b heads n d_h

After a module's name, ":in" is its first argument, ":1" the second of its results; without either
it is the result. Axes are written as in einops; "n[1:]" are the entries after the first, "n[0]" the
first alone, "n[mean]" their mean, and the same for axes in brackets, "(s t)[1:]". Without axes they
are ordered as ours. Two lines are not about modules: "input = b t h w c -> b t c h w" says how the
candidate takes the clip, in brackets as a list of one clip, "input = [b t ... ]", and
"call = encoder" which of its modules is called.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from vtnp._registry.errors import UsageError


class NameLine(NamedTuple):
    """One line: the candidate's module and value, our quantity, and the axes."""

    module: str
    port: str
    quantity: str
    axes: str

    def at(self, i: str) -> "NameLine":
        """Return the line of layer i."""
        module, quantity = (name.replace("{i}", i) for name in (self.module, self.quantity))
        return self._replace(module=module, quantity=quantity)

    def matches(self, module: str) -> str | None:
        """Return the number of the layer that a module is of, "" for one without; else None."""
        before, number, after = self.module.partition("{i}")
        if not number:
            return "" if module == before else None
        found = re.fullmatch(rf"{re.escape(before)}(\d+){re.escape(after)}", module)
        return found[1] if found else None


@dataclass(frozen=True)
class NameTable:
    """All lines for a candidate.

    input: the axes of the clip as the candidate takes it; "" for those of ours. in_list: whether it
    takes a list of the clip. call: the module that is called; "" for the whole model. prefixes:
    what only some of the candidates have before the names of their modules.
    """

    lines: tuple[NameLine, ...]
    input: str = ""
    call: str = ""
    prefixes: tuple[str, ...] = ()
    in_list: bool = False

    def without_prefix(self, name: str) -> str:
        for prefix in self.prefixes:
            name = name.removeprefix(prefix)
        return name


def read_table(text: str, where: str, default: NameTable) -> NameTable:
    """Read a table. default: for input and call, if it has no such lines. Raises UsageError."""
    lines, settings = [], {"input": default.input, "call": default.call}
    for number, line in enumerate(text.splitlines(), 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        left, _, right = (side.strip() for side in content.partition("="))
        if not (left and right):
            raise UsageError(f"{where}, line {number}: expected MODULE = QUANTITY, got {content!r}")
        if left in settings:
            settings[left] = right
            continue
        module, _, port = left.partition(":")
        quantity, _, axes = (side.strip() for side in right.partition(":"))
        if port not in ("", "in") and not port.isdigit():
            raise UsageError(f"{where}, line {number}: {port!r} is neither 'in' nor a number")
        lines.append(NameLine(default.without_prefix(module), port, quantity, axes))
    if not lines:
        raise UsageError(f"{where}: it has no line MODULE = QUANTITY")
    pattern = settings["input"]
    in_list = pattern.startswith("[") and pattern.endswith("]")
    axes_of_clip = pattern[1:-1].strip() if in_list else pattern
    return NameTable(
        tuple(lines),
        axes_of_clip,
        settings["call"],
        default.prefixes,
        in_list or (default.in_list and axes_of_clip == default.input),
    )
