"""Check an implementation of a formula, and name its mistake.

    vtnp verify package.module:function --formula eq2
    vtnp verify attention.py:attend --formula attention --layout "Q=b h n d_k; K=b h m d_k"
    vtnp verify kernels:scan --formula softmax --library torch --device cuda --dtype float32
    vtnp verify mine:attend --formula attention --name Q=query --extra dropout=0.0 --junit out.xml
    vtnp verify mine:norm --formula layer-norm --option eps=1e-5 --size d=768

Exit status: 0 the candidate is right, 1 it is wrong, 2 it could not be checked.
"""

import argparse
import ast
import warnings
from typing import Any

from vtnp._registry.errors import UsageError
from vtnp._registry.pages import formula
from vtnp._registry.spec import registry
from vtnp.cli import reports
from vtnp.cli.settings import pairs
from vtnp.verify.functions.axis_layout import AxisLayout, read_patterns
from vtnp.verify.functions.check import EXAMPLES, check
from vtnp.verify.functions.time_limit import check_in_process
from vtnp.verify.loading import load
from vtnp.verify.report import Report

_DIGITS = 9


def prepare(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("candidate", help="package.module:function, or file.py:function")
    add("--formula", required=True, help="the formula: its id, eq2 or 2")
    add(
        "--layout",
        default="",
        help='axes of its arguments and result, as in einops: "Q=b h (t s) d; result=..."',
    )
    many: dict[str, Any] = {"action": "append", "default": []}
    add("--name", **many, metavar="NAME=ITS_NAME", help="its name for an argument or an axis")
    add("--extra", **many, metavar="KEY=VALUE", help="an extra argument to pass to the candidate")
    add("--size", **many, metavar="AXIS=N", help="the size of an axis that the candidate fixes")
    add("--option", **many, metavar="KEY=VALUE", help="an option that the candidate fixes")
    add(
        "--library",
        default="",
        help="numpy, autograd, torch, jax or cupy (default: what the candidate's module imports)",
    )
    add("--device", default="", help="the library's name of the device: cuda, cuda:1, cpu")
    add("--dtype", **many, help="check only these dtypes (default: all that the candidate accepts)")
    add("--seed", type=int, default=0, help="seed of the cases (default: 0)")
    add(
        "--examples",
        type=int,
        default=EXAMPLES,
        help="number of cases that hypothesis draws (default: %(default)s)",
    )
    add("--no-gradients", action="store_true", help="do not check gradients")
    add(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help="for each call of the candidate, which then runs in a separate process",
    )
    reports.prepare(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit status of the report."""
    # Refused before the candidate is loaded, which may import a large library.
    AxisLayout(registry[formula(options.formula).id].signature, read_patterns(options.layout))
    keywords = {
        "layout": options.layout,
        "names": dict(pairs(options.name, "--name")),
        "extra": {key: _value(text) for key, text in pairs(options.extra, "--extra")},
        "sizes": {axis: _size(axis, text) for axis, text in pairs(options.size, "--size")},
        "options": {key: _value(text) for key, text in pairs(options.option, "--option")},
        "library": options.library,
        "device": options.device,
        "dtypes": tuple(options.dtype),
        "seed": options.seed,
        "examples": options.examples,
        "gradients": not options.no_gradients,
    }
    return reports.show(_report(options, keywords), options)


def _report(options: argparse.Namespace, keywords: dict[str, Any]) -> Report:
    if options.time_limit is not None:
        return check_in_process(options.candidate, options.formula, options.time_limit, keywords)
    return check(load(options.candidate), options.formula, **keywords)


def _size(axis: str, text: str) -> int:
    if not (text.isdecimal() and len(text) <= _DIGITS):
        raise UsageError(f"--size {axis}={text}: expected an integer of {_DIGITS} digits at most")
    return int(text)


def _value(text: str) -> Any:
    """Read a Python literal; any other text is a string."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the parser, about backslashes
        try:
            return ast.literal_eval(text)
        except (MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
            return text
