"""Tell what a formula or a model costs, at any size.

    vtnp cost attention n=4096                      multiply-adds, operations, bytes, peak memory
    vtnp cost dilated-attention n=1e9 --gradient    the same of value and gradients together
    vtnp cost timesformer-l --json                  a model, one view; figures for a program
    vtnp cost eq2 --sweep t=8..512                  how it grows
    vtnp cost attention n=2000 --measure            counted beside measured
    vtnp cost --table                               all models beside their papers' figures
    vtnp cost --plot cost.png                       all attention schemes over the length

All of it is counted as the formula's own text runs on arrays without numbers. Sizes that are left
out take the defaults that the answer lists. One multiply-add is one product that enters a sum;
bytes are powers of ten.
"""

import argparse
import dataclasses
import json
import textwrap
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vtnp._registry.errors import UsageError
from vtnp._registry.pages import UnknownFormulaError, formula
from vtnp._registry.spec import registry
from vtnp.cli import units
from vtnp.cli.settings import changes, pairs
from vtnp.cost import Cost, counted, counted_gradient, sizes
from vtnp.cost.forms import closed_form
from vtnp.cost.measure import Measured, measured
from vtnp.cost.models import model_cost, names
from vtnp.cost.sweep import Step, steps, sweep

Lines = list[tuple[str, ...]]


def prepare(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("name", nargs="?", help="a formula (id, eq2 or 2) or a model's configuration")
    add("settings", nargs="*", metavar="KEY=VALUE", help="sizes and options: n=1e6 grid=14x14")
    add("--dtype", default="float32", help="of all arrays (default: float32)")
    add("--gradient", action="store_true", help="value and gradients of all arrays together")
    add("--json", action="store_true", help="figures for a program")
    add("--sweep", metavar="KEY=FIRST..LAST", help="each size ten times the last; *2 for twice")
    add("--measure", action="store_true", help="run it, too: real memory and time")
    add("--table", action="store_true", help="models beside their papers' figures")
    add("--plot", type=Path, metavar="FILE", help="draw all attention schemes (.png, .svg, .pdf)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Answer the command."""
    if options.table or options.plot:
        if options.name:
            raise UsageError("--table and --plot are about all of them: no name goes with them")
        return _table(options) if options.table else _plot(options.plot)
    if not options.name:
        raise UsageError("which formula or model? vtnp cost --help tells more")
    told = _of_model(options) if options.name in names() else _of_formula(options)
    print(told)
    return 0


def _table(options: argparse.Namespace) -> int:
    from vtnp.cost import table

    print(table.to_json() if options.json else table.to_text())
    return 0


def _plot(file: Path) -> int:
    from vtnp.cost.plot import draw

    draw(file)
    print(f"see {file}")
    return 0


# --- Formulas -------------------------------------------------------------------------------------


def _of_formula(options: argparse.Namespace) -> str:
    id = _known(options.name)
    given = {key: sizes.parsed(id, key, text) for key, text in pairs(options.settings)}
    given["dtype"] = options.dtype
    if options.measure and (options.gradient or options.sweep):
        raise UsageError("--measure runs one value: --gradient and --sweep do not go with it")
    if options.sweep:
        return _swept(id, given, options)
    call = sizes.call(id, **given)
    count = counted_gradient if options.gradient else counted
    function = registry[id].function
    cost = count(function, **call.arguments)
    told = {"formula": id, "sizes": _sizes(id, given), "dtype": options.dtype}
    told |= {"of": _of(options), "cost": dataclasses.asdict(cost)}
    run = measured(function, call.arguments) if options.measure else None
    if run:
        told["measured"] = {"peak_bytes": run.peak_bytes, "seconds": run.seconds}
    if options.json:
        return json.dumps(told, indent=2)
    page = closed_form(id, call.letters)
    form = f"{units.whole(page)} by the page's closed form" if not options.gradient else ""
    rows = _rows(cost, form) + (_measured_rows(run) if run else [])
    return f"{_head(id, given, options)}\n\n{units.table(rows)}"


def _head(id: str, given: Mapping[str, Any], options: argparse.Namespace) -> str:
    what = f"{_of(options)}, arrays of {options.dtype}"
    return f"{id}: {formula(id).plain}\n{_told_sizes(id, given)}\n{what}"


def _known(name: str) -> str:
    try:
        return formula(name).id
    except UnknownFormulaError:
        near = get_close_matches(name, [*registry, *names()], n=3, cutoff=0.4)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise UsageError(f"no formula or model is called {name!r}{hint}") from None


def _of(options: argparse.Namespace) -> str:
    return "value and gradients" if options.gradient else "value"


def _sizes(id: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what sizes and options there are, those included that follow from others."""
    resolved = sizes.defaults(id, **given)
    return {key: value for key, value in resolved.items() if key != "dtype"}


def _told_sizes(id: str, given: Mapping[str, Any]) -> str:
    usual = sizes.defaults(id)
    told = [
        f"{key} = {_written(value)}" + (" (default)" if _is(value, usual[key]) else "")
        for key, value in _sizes(id, given).items()
        if key in given or not (value is None or value is False or _is(value, ()))
    ]
    whole = [each.replace(" ", "\0") for each in told]  # no line ends within one of them
    text = textwrap.fill(", ".join(whole), 100, initial_indent="at ", subsequent_indent="   ")
    return text.replace("\0", " ")


def _is(value: Any, other: Any) -> bool:
    return type(value) is type(other) and bool(value == other)


def _written(value: Any) -> str:
    if type(value) is int:
        return units.whole(value)
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()


def _rows(cost: Cost, form: str = "") -> Lines:
    rows: Lines = [("multiply-adds", units.rounded(cost.multiply_adds), form or "one each")]
    total = sum(cost.operations.values())
    rows.append(("element operations", units.rounded(total), "of all kinds"))
    rows += [(f"  {kind}", units.rounded(n), "") for kind, n in _by_size(cost.operations)]
    rows += [
        ("read", units.in_bytes(cost.bytes_read), "each operation on its own"),
        ("written", units.in_bytes(cost.bytes_written), ""),
        ("alive at once, at most", units.in_bytes(cost.peak_bytes), "arguments and results, too"),
        ("  arguments", units.in_bytes(cost.argument_bytes), ""),
        ("  results", units.in_bytes(cost.result_bytes), ""),
    ]
    return rows


def _by_size(operations: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(operations.items(), key=lambda pair: -pair[1])


def _measured_rows(run: Measured) -> Lines:
    each = run.seconds_per_multiply_add
    rows: Lines = [
        ("measured: alive at once", units.in_bytes(run.peak_bytes),
         f"{run.memory_ratio:.3f} of the count"),
        ("measured: time", units.in_seconds(run.seconds), "the shortest of three runs"),
    ]  # fmt: skip
    return rows + ([("  for a multiply-add", units.in_seconds(each), "")] if each else [])


def _swept(id: str, given: Mapping[str, Any], options: argparse.Namespace) -> str:
    key, lengths = _range(id, options.sweep)
    fixed = {name: value for name, value in given.items() if name != key}
    found = list(sweep(id, key, lengths, fixed, gradient=options.gradient))
    if options.json:
        each = [{key: step.size, "cost": dataclasses.asdict(step.cost)} for step in found]
        return json.dumps({"formula": id, "sizes": _sizes(id, fixed), "sweep": each}, indent=2)
    columns = (key, "multiply-adds", f"power of {key}", "element operations", "alive at once")
    rows: Lines = [columns, *(_swept_row(step) for step in found)]
    return f"{_head(id, fixed, options)}\n\n{units.table(rows, left=0)}"


def _swept_row(step: Step) -> tuple[str, ...]:
    return (
        units.whole(step.size),
        units.rounded(step.cost.multiply_adds),
        "" if step.slope is None else f"{step.slope:.3f}",
        units.rounded(sum(step.cost.operations.values())),
        units.in_bytes(step.cost.peak_bytes),
    )


def _range(id: str, text: str) -> tuple[str, list[int]]:
    """Read KEY=FIRST..LAST or KEY=FIRST..LAST*FACTOR."""
    key, _, span = text.partition("=")
    ends, _, factor = span.partition("*") if "**" not in span else (span, "", "")
    first, dots, last = ends.partition("..")
    if not (key and dots):
        raise UsageError(f"--sweep {text}: KEY=FIRST..LAST is meant, as in n=1e3..1e9")
    low, high = (sizes.parsed(id, key, end) for end in (first, last))
    by = int(factor) if factor.isdigit() else 10
    if not all(type(n) is int for n in (low, high)) or not 1 <= low <= high or by < 2:
        raise UsageError(f"--sweep {text}: whole numbers are meant, the first >= 1 and not larger")
    return key, steps(low, high, by)


# --- Models ---------------------------------------------------------------------------------------


def _of_model(options: argparse.Namespace) -> str:
    if options.sweep or options.measure:
        raise UsageError("--sweep and --measure are for formulas")
    name = options.name
    changed = changes(name, options.settings)
    found = model_cost(name, gradient=options.gradient, dtype=options.dtype, **changed)
    if options.json:
        told = {"model": name, "changes": changed, "dtype": options.dtype, "of": _of(options)}
        told |= {"parameters": found.parameters, "cost": dataclasses.asdict(found.cost)}
        return json.dumps(told, indent=2)
    told_changes = "".join(f", {key} = {value}" for key, value in changed.items())
    head = f"{name}{told_changes}: one view; {options.dtype}; {_of(options)}\n"
    rows: Lines = [("parameters", units.rounded(found.parameters), units.whole(found.parameters))]
    return f"{head}\n{units.table(rows + _rows(found.cost))}"
