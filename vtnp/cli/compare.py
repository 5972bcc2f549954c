"""Compare a whole model with another implementation, layer by layer, on the same weights.

    vtnp compare timesformer --weights hf.safetensors --layout-of-weights huggingface
        --candidate mine:model scheme=divided frames=8
    vtnp compare vivit-b --weights v.npz --layout-of-weights huggingface --activations a.npz
    vtnp compare timesformer --weights t.pyth --candidate mine:model --names names.txt

The candidate is a function that returns a torch module. If it takes no argument, the weights are
loaded by load_state_dict; if it takes one, it receives the path of the weights file. Each line of
--names maps the input or output of one of its modules to a quantity of vtnp's model, with the axes
of both:

    blocks.{i}.attn.proj:in = layers.{i}.space.context : b n[1:] (heads d_h) -> b heads n d_h

A file of --activations has the input clip under "clip", in the layout of vtnp's model, and the
candidate's activations under vtnp's names or under those in --names. Of nystromformer and longnet
only the layers are published, so these take tokens, b n d, instead of a clip.

Exit status: 0 the two agree, 1 they diverge, 2 they could not be compared.
"""

import argparse
from pathlib import Path

from vtnp._registry.errors import UsageError, did_you_mean
from vtnp.cli import reports
from vtnp.cli.settings import changes
from vtnp.cost import models
from vtnp.verify.errors import CandidateError
from vtnp.verify.loading import load
from vtnp.verify.models.compare import compare


def prepare(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add = parser.add_argument
    add("model", help="a configuration: timesformer, vivit-b, nystromformer ...")
    add("settings", nargs="*", metavar="KEY=VALUE", help="changes to its fields: frames=16")
    add("--weights", type=Path, required=True, metavar="FILE", help="the weights of both models")
    add(
        "--layout-of-weights",
        default="official",
        metavar="NAME",
        help="layout of the weights file (default: official)",
    )
    add("--candidate", default="", help="package.module:factory, or file.py:factory")
    add(
        "--activations",
        type=Path,
        metavar="FILE",
        help="instead of --candidate: recorded activations of the other model",
    )
    add("--names", type=Path, metavar="FILE", help="maps its modules to quantities of vtnp's model")
    add(
        "--dtype", default="float64", help="dtype that the candidate computes in (default: float64)"
    )
    add("--seed", type=int, default=0, help="seed of the input clip (default: 0)")
    reports.prepare(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit status of the report."""
    try:
        name = _known(options.model)
        config = models.config(name, **changes(name, options.settings))
        module = models.names()[name].__name__.rpartition(".")[2]
        report = compare(
            module,
            config,
            options.weights,
            layout=options.layout_of_weights,
            candidate=load(options.candidate) if options.candidate else None,
            activations=options.activations,
            names=options.names,
            dtype=options.dtype,
            seed=options.seed,
        )
    except (ValueError, CandidateError) as error:
        raise UsageError(" ".join(str(error).split())) from error
    return reports.show(report, options)


def _known(name: str) -> str:
    if name not in models.names():
        hint = did_you_mean(name, models.names())
        raise UsageError(f"no model is called {name!r}{hint}")
    return name
