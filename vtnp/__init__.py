"""Every equation of a survey on video transformers, as one small NumPy function each.

Formulas are reached through their chapter: `vtnp.encoder.attention`, `vtnp.mvit.pool`. Chapters and
tools are modules of this package, each loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vtnp._registry import pages
from vtnp._registry.calls import Call, intercept, unchecked
from vtnp._registry.errors import FormulaError, ShapeError, UnknownFormulaError, UsageError
from vtnp._registry.pages import Formula

if TYPE_CHECKING:
    from vtnp import (
        checkpoints,
        claims,
        cost,
        deformable,
        encoder,
        longnet,
        mistakes,
        models,
        motionformer,
        mvit,
        nystromformer,
        positions,
        timesformer,
        tokens,
        verify,
        video,
        vivit,
    )

__version__ = "0.1.0"

# In the survey's order.
_CHAPTERS = (
    "encoder",
    "tokens",
    "positions",
    "timesformer",
    "vivit",
    "motionformer",
    "deformable",
    "mvit",
    "nystromformer",
    "longnet",
)
_TOOLS = ("checkpoints", "claims", "cost", "mistakes", "models", "verify", "video")

__all__ = [
    "Call",
    "Formula",
    "FormulaError",
    "ShapeError",
    "UnknownFormulaError",
    "UsageError",
    "checkpoints",
    "claims",
    "cost",
    "deformable",
    "encoder",
    "formula",
    "formulas",
    "intercept",
    "longnet",
    "mistakes",
    "models",
    "motionformer",
    "mvit",
    "nystromformer",
    "positions",
    "timesformer",
    "tokens",
    "unchecked",
    "verify",
    "video",
    "vivit",
]


def formulas() -> tuple[Formula, ...]:
    """Return every formula, in the survey's order.

    Returns
    -------
    tuple of Formula
        Function and page of each.
    """
    _load_chapters()
    # The registry has them as chapters were imported, which need not be the survey's order.
    found = pages.formulas()
    return tuple(sorted(found, key=lambda each: _CHAPTERS.index(_chapter(each))))


def formula(name: str | int) -> Formula:
    """Return one formula.

    Parameters
    ----------
    name : str or int
        Its id, "eq2", or the number of the survey's equation.

    Returns
    -------
    Formula
        Its function, and what its page says.

    Raises
    ------
    UnknownFormulaError
        If no formula has the name; the message has the nearest ones.
    """
    _load_chapters()
    return pages.formula(name)


def _chapter(each: Formula) -> str:
    return each.function.__module__.removeprefix("vtnp.")


def _load_chapters() -> None:
    for chapter in _CHAPTERS:
        import_module(f"vtnp.{chapter}")


def __getattr__(name: str) -> Any:
    if name in _CHAPTERS or name in _TOOLS:
        return import_module(f"vtnp.{name}")
    raise AttributeError(f"module 'vtnp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
