"""Count multiply-adds, bytes and peak memory of a formula or a model, at any size.

    vtnp cost attention n=4096                      a formula; other sizes take their defaults
    vtnp cost dilated-attention n=1e9 --gradient    value and gradients together
    vtnp cost timesformer-l --json                  a model, one view, as JSON
    vtnp cost eq2 --sweep t=8..512*2                growth with the number of frames
    vtnp cost attention n=2000 --measure            also peak memory and time on this machine
    vtnp cost --table                               counts beside the figures published in papers
    vtnp cost --plot cost.png                       attention schemes over the length of a video

The formula's own code runs on arrays without values, and its operations are counted. One
multiply-add (MAC) is one product that is added to a sum. Bytes read and written are summed over all
operations, as if nothing were fused or cached. 1 kB is 1000 bytes.
"""

import argparse
import dataclasses
import json
import re
import textwrap
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vtnp._registry.errors import UnknownFormulaError, UsageError, did_you_mean
from vtnp._registry.pages import formula
from vtnp._registry.printable import printable
from vtnp._registry.spec import registry
from vtnp.cli import units
from vtnp.cli.output import say
from vtnp.cli.settings import changes, pairs
from vtnp.cost import Cost, counted, counted_gradient, plot, table
from vtnp.cost.closed_forms import closed_form
from vtnp.cost.measure import Measurement, measured
from vtnp.cost.models import model_cost, names
from vtnp.cost.option_text import text_of
from vtnp.cost.sizes import Dtype, default_sizes, parsed_size, size_names, sized_call
from vtnp.cost.sweep import SweepPoint, geometric, sweep

_COLUMNS = 100
_SWEEP = re.compile(r"(?P<key>\w+)=(?P<first>.+?)\.\.(?P<last>.+?)((?<!\*)\*(?P<factor>\d{1,9}))?")

Rows = list[tuple[str, ...]]


def prepare(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("name", nargs="?", help="a formula (its id, eq2 or 2) or a configuration of a model")
    add("settings", nargs="*", metavar="KEY=VALUE", help="sizes and options: n=1e6 grid=8x14x14")
    add(
        "--dtype",
        choices=typing.get_args(Dtype),
        default="float32",
        help="dtype of the arrays (default: float32)",
    )
    add("--gradient", action="store_true", help="count value and gradients together")
    add("--json", action="store_true", help="print JSON")
    add("--sweep", metavar="KEY=FIRST..LAST*FACTOR", help="a range of sizes (default factor: 10)")
    add("--measure", action="store_true", help="also run it, and measure peak memory and time")
    add("--table", action="store_true", help="compare models with the figures in their papers")
    add(
        "--plot",
        type=Path,
        metavar="FILE",
        help="plot attention schemes to a file (.png, .svg, .pdf)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Answer the command."""
    if options.table or options.plot:
        if options.name:
            raise UsageError("--table and --plot do not take a formula or a model")
        say(_table_or_plot(options))
    elif not options.name:
        raise UsageError("expected a formula or a model, as in: vtnp cost attention n=4096")
    elif options.name in names():
        say(_of_model(options))
    else:
        say(_of_formula(options))
    return 0


def _table_or_plot(options: argparse.Namespace) -> str:
    if options.table:
        return table.to_json() if options.json else table.to_text()
    plot.draw(options.plot)
    return printable(f"wrote {options.plot}")


# --- Formulas -------------------------------------------------------------------------------------


def _of_formula(options: argparse.Namespace) -> str:
    id = _known(options.name)
    sizes = {key: parsed_size(id, key, text) for key, text in pairs(options.settings)}
    sizes["dtype"] = options.dtype
    if options.measure and (options.gradient or options.sweep):
        raise UsageError("--measure cannot be combined with --gradient or --sweep")
    if options.sweep:
        return _of_sweep(id, sizes, options)
    call = sized_call(id, **sizes)
    function = registry[id].function
    cost = (counted_gradient if options.gradient else counted)(function, **call.arguments)
    form = None if options.gradient else closed_form(id, call.letters)
    measurement = measured(function, call.arguments) if options.measure else None
    if options.json:
        answer = _head_as_json(id, sizes, options) | {"cost": dataclasses.asdict(cost)}
        if form is not None:
            answer["closed_form"] = form
        if measurement:
            answer["measured"] = {
                "peak_bytes": measurement.peak_bytes,
                "seconds": measurement.seconds,
            }
        return json.dumps(answer, indent=2)
    rows = _rows(cost) + (_measured_rows(measurement) if measurement else [])
    return f"{_head(id, sizes, options, form=form)}\n\n{units.table(rows, align='<><')}"


def _known(name: str) -> str:
    try:
        return formula(name).id
    except UnknownFormulaError:
        hint = did_you_mean(name, [*registry, *names()])
        raise UsageError(f"no formula or model is called {name!r}{hint}") from None


def _head(
    id: str,
    sizes: Mapping[str, Any],
    options: argparse.Namespace,
    *,
    form: int | None = None,
    swept: Sequence[str] = (),
) -> str:
    """Return what is counted; form: the value of the closed form. swept: sizes that vary."""
    page = formula(id)
    given, defaults = _sizes_as_text(id, sizes, swept)
    lines = {
        "formula": f"{id}: {page.plain}",
        "page": registry[id].page_path,
        "swept": " and with it ".join([*swept[:1], *filter(None, [", ".join(swept[1:])])]),
        "sizes": given,
        "defaults": defaults,
        "counted": _counted(options),
    }
    if not options.gradient:
        expression = page.cost["multiply_adds"]
        if len(expression) > _COLUMNS:
            expression = "the expression on the page"
        of_batch = " for each element of the batch" if sizes.get("batch") else ""
        value = "" if form is None else f"{units.exact(form)} multiply-adds{of_batch} = "
        lines["closed form"] = value + expression
    return _labelled(lines)


def _head_as_json(id: str, sizes: Mapping[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    resolved = {key: value for key, value in default_sizes(id, **sizes).items() if key != "dtype"}
    return {
        "formula": id, "sizes": resolved, "dtype": options.dtype, "gradient": options.gradient,
    }  # fmt: skip


def _counted(options: argparse.Namespace) -> str:
    what = "value and gradients" if options.gradient else "value"
    return f"{what}, in {options.dtype}"


def _sizes_as_text(id: str, sizes: Mapping[str, Any], swept: Sequence[str]) -> tuple[str, str]:
    """Return sizes that were given or follow from these, and those at their defaults.

    Arrays and options that are left out by default are not among them.
    """
    usual, hints = default_sizes(id), size_names(id)
    given, defaults = [], []
    for key, value in default_sizes(id, **sizes).items():
        if key in {*swept, "dtype"}:
            continue
        text = f"{key}={text_of(value, hints[key])}"
        if key in sizes or value != usual[key]:
            given.append(text)
        elif value is not None and value is not False and value != ():
            defaults.append(text)
    return " ".join(given), " ".join(defaults)


def _labelled(lines: Mapping[str, str]) -> str:
    """Return labels and texts side by side, long texts on several lines, without the empty ones."""
    width = max(map(len, lines)) + 2
    return "\n".join(
        textwrap.fill(
            text, _COLUMNS, initial_indent=label.ljust(width), subsequent_indent=" " * width,
            break_long_words=False, break_on_hyphens=False,
        )
        for label, text in lines.items()
        if text
    )  # fmt: skip


def _rows(cost: Cost) -> Rows:
    total = sum(cost.operations.values())
    by_size = sorted(cost.operations.items(), key=lambda pair: -pair[1])
    return [
        ("multiply-adds (MACs)", units.rounded(cost.multiply_adds), ""),
        ("elementwise operations", units.rounded(total), ""),
        *[(f"  {kind}", units.rounded(n), "") for kind, n in by_size],
        ("read", units.in_bytes(cost.bytes_read), "summed over all operations"),
        ("written", units.in_bytes(cost.bytes_written), ""),
        ("peak memory", units.in_bytes(cost.peak_bytes), "arguments and results included"),
        ("  arguments", units.in_bytes(cost.argument_bytes), ""),
        ("  results", units.in_bytes(cost.result_bytes), ""),
    ]


def _measured_rows(measurement: Measurement) -> Rows:
    rows: Rows = [
        ("measured peak memory", units.in_bytes(measurement.peak_bytes),
         f"{measurement.memory_ratio:.3f} times the count"),
        ("measured time", units.in_seconds(measurement.seconds), "the shortest of three runs"),
    ]  # fmt: skip
    each = measurement.seconds_per_multiply_add
    return rows + ([("  per multiply-add", units.in_seconds(each), "")] if each else [])


# --- Sweeps ---------------------------------------------------------------------------------------


def _of_sweep(id: str, sizes: Mapping[str, Any], options: argparse.Namespace) -> str:
    key, values = _range(id, options.sweep)
    others = {name: value for name, value in sizes.items() if name != key}
    points = list(sweep(id, key, values, gradient=options.gradient, **others))
    low, high = (default_sizes(id, **others, **{key: n}) for n in (values[0], values[-1]))
    swept = [key, *(name for name in low if name != key and low[name] != high[name])]
    if options.json:
        answer = _head_as_json(id, others, options)
        answer["sizes"] = {k: v for k, v in answer["sizes"].items() if k not in swept}
        answer["sweep"] = [{key: p.size, "cost": dataclasses.asdict(p.cost)} for p in points]
        return json.dumps(answer, indent=2)
    heads = (key, "multiply-adds (MACs)", "growth", "elementwise operations", "peak memory")
    rows: Rows = [heads, *(_sweep_row(key, point) for point in points)]
    head = _head(id, others, options, swept=swept)
    return f"{head}\n\n{units.table(rows, align='>' * len(heads))}"


def _sweep_row(key: str, point: SweepPoint) -> tuple[str, ...]:
    return (
        units.exact(point.size),
        units.rounded(point.cost.multiply_adds),
        "" if point.exponent is None else f"{key}^{point.exponent:.3f}",
        units.rounded(sum(point.cost.operations.values())),
        units.in_bytes(point.cost.peak_bytes),
    )


def _range(id: str, text: str) -> tuple[str, list[int]]:
    """Read KEY=FIRST..LAST or KEY=FIRST..LAST*FACTOR."""
    match = _SWEEP.fullmatch(text)
    if match is None:
        example = "n=1e3..1e9 or t=8..512*2"
        raise UsageError(f"--sweep {text}: expected KEY=FIRST..LAST*FACTOR, such as {example}")
    key, factor = match["key"], int(match["factor"] or 10)
    first, last = (parsed_size(id, key, match[end]) for end in ("first", "last"))
    if not all(type(n) is int for n in (first, last)) or not 1 <= first <= last or factor < 2:
        raise UsageError(f"--sweep {text}: expected integers, 1 <= FIRST <= LAST and FACTOR >= 2")
    return key, geometric(first, last, factor)


# --- Models ---------------------------------------------------------------------------------------


def _of_model(options: argparse.Namespace) -> str:
    if options.sweep or options.measure:
        raise UsageError("--sweep and --measure are for formulas, not for models")
    name, changed = options.name, changes(options.name, options.settings)
    try:
        found = model_cost(name, gradient=options.gradient, dtype=options.dtype, **changed)
    except ValueError as error:  # fields that do not fit each other
        raise UsageError(f"{name}: {error}") from error
    if options.json:
        answer = {"model": name, "changes": changed, "dtype": options.dtype}
        answer |= {"gradient": options.gradient, "parameters": found.parameters}
        return json.dumps(answer | {"cost": dataclasses.asdict(found.cost)}, indent=2)
    head = _labelled({
        "model": name,
        "changes": " ".join(options.settings),
        "counted": f"{_counted(options)}, of one view",
        "parameters": units.exact(found.parameters),
    })  # fmt: skip
    return f"{head}\n\n{units.table(_rows(found.cost), align='<><')}"
