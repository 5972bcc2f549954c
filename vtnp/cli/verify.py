"""Check somebody's implementation of a formula, and name its mistake.

    vtnp verify package.module:function --formula eq2
    vtnp verify attention.py:attend --formula attention --layout "Q=b h n d_k; K=b h m d_k"
    vtnp verify kernels:scan --formula softmax --library torch --device cuda --dtype float32
    vtnp verify mine:attend --formula attention --name Q=query --extra dropout=0.0 --junit out.xml
    vtnp verify mine:norm --formula layer-norm --option eps=1e-5 --size d=768

Exit status: 0 the candidate is right, 1 it is wrong, 2 it could not be run.
"""

import argparse
import ast
from typing import Any

from vtnp._registry.errors import UsageError
from vtnp.cli import reports
from vtnp.cli.settings import pairs
from vtnp.verify.functions import limits
from vtnp.verify.functions.check import EXAMPLES, check
from vtnp.verify.functions.target import load
from vtnp.verify.report import Report


def prepare(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("candidate", help="package.module:function, or file.py:function")
    add("--formula", required=True, help="id, eq2 or 2")
    add("--layout", default="", help='its axes, as in einops: "Q=b h (t s) d; result=..."')
    add("--name", action="append", default=[], metavar="OURS=THEIRS", help="argument, or axis")
    add("--extra", action="append", default=[], metavar="KEY=VALUE", help="a further argument")
    add("--size", action="append", default=[], metavar="AXIS=N", help="an axis that it has fixed")
    add("--option", action="append", default=[], metavar="KEY=VALUE", help="a fixed option")
    add("--library", default="", help="numpy, autograd, torch, jax, cupy (default: by its module)")
    add("--device", default="", help="as the library calls it: cuda, cuda:1, cpu")
    add("--dtype", action="append", default=[], help="try these alone (default: all it takes)")
    add("--seed", type=int, default=0, help="of the cases (default: 0)")
    add("--examples", type=int, default=EXAMPLES, help="drawn cases (default: %(default)s)")
    add("--no-gradients", action="store_true", help="leave gradients out")
    add("--time-limit", type=float, metavar="SECONDS", help="run it in a process of its own")
    reports.prepare(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Answer the command; return the exit status of the report."""
    asked = {
        "layout": options.layout,
        "names": dict(pairs(options.name, "--name")),
        "extra": {key: _value(text) for key, text in pairs(options.extra, "--extra")},
        "sizes": {axis: _whole(axis, text) for axis, text in pairs(options.size, "--size")},
        "options": {key: _value(text) for key, text in pairs(options.option, "--option")},
        "library": options.library,
        "device": options.device,
        "dtypes": tuple(options.dtype),
        "seed": options.seed,
        "examples": options.examples,
        "gradients": not options.no_gradients,
    }
    return reports.shown(_report(options, asked), options)


def _report(options: argparse.Namespace, asked: dict[str, Any]) -> Report:
    if options.time_limit is not None:
        return limits.check(options.candidate, options.formula, options.time_limit, asked)
    return check(load(options.candidate), options.formula, **asked)


def _whole(axis: str, text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"--size {axis}={text}: a whole number is meant")
    return int(text)


def _value(text: str) -> Any:
    """Read a value as Python writes it; what is none is a word."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
