"""Computed figures beside published ones: parameters and multiply-adds of models in papers."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vtnp.cost.conventions import MULTIPLY_ADDS, PARAMETERS
from vtnp.cost.models import model_cost
from vtnp.cost.option_text import text_of

_UNITS = {"": 1, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Printed:
    """A figure as it is published, for instance "0.59 T"."""

    text: str

    @property
    def value(self) -> float:
        digits, unit = self._split()
        return float(digits) * _UNITS[unit]

    def digits_of(self, number: float) -> str:
        """Return another number in the unit of this one, rounded to its last digit."""
        digits, unit = self._split()
        decimals = len(digits.partition(".")[2])
        return f"{number / _UNITS[unit]:.{decimals}f} {unit}".strip()

    def _split(self) -> tuple[str, str]:
        digits, _, unit = self.text.partition(" ")
        return digits, unit


@dataclass(frozen=True)
class TableRow:
    """The figures of one model in one source.

    Attributes
    ----------
    model : str
        The source's name of the model.
    source, place : str
        The source's key in the bibliography, and the place in it.
    config, changes : str, Mapping[str, Any]
        The configuration that was computed, and the fields that were changed.
    conventions : tuple of str
        What the source counts in addition.
    parameters, multiply_adds : int
        Computed, the latter for one view.
    parameters_as_counted, as_counted : int, float
        The same with the source's conventions.
    printed_parameters, printed_multiply_adds : Printed, optional
        Published, the latter for `views` views.
    views : int
        The number of views that the published multiply-adds are for.
    reason : str
        Why the two differ, or a remark.
    unexplained : bool
        Whether the difference is not understood.
    """

    model: str
    source: str
    place: str
    config: str
    changes: Mapping[str, Any]
    conventions: tuple[str, ...]
    parameters: int
    parameters_as_counted: int
    printed_parameters: Printed | None
    multiply_adds: int
    as_counted: float
    printed_multiply_adds: Printed | None
    views: int
    reason: str
    unexplained: bool

    @property
    def parameters_ratio(self) -> float | None:
        """Computed over published parameters."""
        printed = self.printed_parameters
        return self.parameters / printed.value if printed else None

    @property
    def multiply_adds_ratio(self) -> float | None:
        """Computed multiply-adds of all views over published ones."""
        return self._ratio(self.multiply_adds)

    @property
    def as_counted_ratio(self) -> float | None:
        """The same with the source's conventions."""
        return self._ratio(self.as_counted)

    @property
    def parameters_agree(self) -> bool:
        """Whether the parameters, by the source's conventions, agree to the last digit."""
        printed = self.printed_parameters
        return not printed or printed.digits_of(self.parameters_as_counted) == printed.text

    @property
    def multiply_adds_agree(self) -> bool:
        """Whether the multiply-adds, by the source's conventions, agree to the last digit."""
        printed = self.printed_multiply_adds
        return not printed or printed.digits_of(self.as_counted * self.views) == printed.text

    def _ratio(self, of_one_view: float) -> float | None:
        printed = self.printed_multiply_adds
        return of_one_view * self.views / printed.value if printed else None


@cache
def published() -> Mapping[str, Any]:
    """Return the content of published.toml: figures, conventions and notes."""
    return tomllib.loads((Path(__file__).parent / "published.toml").read_text(encoding="utf-8"))


def rows() -> list[TableRow]:
    """Compute every model that a figure is published of."""
    return [_row(figure) for figure in published()["figures"]]


def _row(figure: Mapping[str, Any]) -> TableRow:
    changes = {field: _field(value) for field, value in figure.get("changes", {}).items()}
    computed = model_cost(figure["config"], **changes)
    conventions = tuple(figure.get("conventions", ()))
    multiply_adds = computed.cost.multiply_adds
    return TableRow(
        model=figure["model"],
        source=figure["source"]["key"],
        place=figure["source"]["place"],
        config=figure["config"],
        changes=changes,
        conventions=conventions,
        parameters=computed.parameters,
        parameters_as_counted=computed.parameters
        + sum(PARAMETERS[name](computed.config) for name in conventions if name in PARAMETERS),
        printed_parameters=_printed(figure.get("parameters")),
        multiply_adds=multiply_adds,
        as_counted=multiply_adds
        + sum(
            MULTIPLY_ADDS[name](computed.config, computed.cost)
            for name in conventions
            if name in MULTIPLY_ADDS
        ),
        printed_multiply_adds=_printed(figure.get("multiply_adds")),
        views=figure.get("views", 1),
        reason=figure.get("reason", ""),
        unexplained=figure.get("unexplained", False),
    )


def _field(value: Any) -> Any:
    """Return a field of a configuration from what TOML can express."""
    if value == "none":
        return None
    return tuple(map(_field, value)) if isinstance(value, list) else value


def _printed(text: str | None) -> Printed | None:
    return None if text is None else Printed(text)


# --- As text --------------------------------------------------------------------------------------

_HEADS = (
    "model", "configuration", "parameters", "published", "ratio", "MACs", "published", "ratio",
    "by its conventions", "ratio", "source", "remarks",
)  # fmt: skip
_MAX_WIDTH = 60  # of a configuration in its column


def to_text() -> str:
    """Return the table as text, with remarks and notes below it."""
    remarks: list[str] = []
    lines = [_HEADS, *(_cells(row, remarks) for row in rows())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    laid_out = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    explained = "MACs: multiply-adds of one view. 11.94 T / 3: 11.94 T are published for 3 views."
    numbered = [f"[{i}] {text}" for i, text in enumerate(remarks, 1)]
    return "\n".join([*laid_out, "", explained, "", *numbered, "", published()["notes"].strip()])


def to_json() -> str:
    """Return all rows as a list of objects, with published figures as they are published."""
    return json.dumps([_object(row) for row in rows()], indent=2, ensure_ascii=False)


def _object(row: TableRow) -> dict[str, Any]:
    plain = {field: value for field, value in vars(row).items() if value is not None}
    plain |= {field: value.text for field, value in plain.items() if isinstance(value, Printed)}
    ratios = ("parameters_ratio", "multiply_adds_ratio", "as_counted_ratio")
    return plain | {name: getattr(row, name) for name in ratios}


def _cells(row: TableRow, remarks: list[str]) -> tuple[str, ...]:
    """Return the cells of a row; add its remarks to those of the table."""
    explanations = published()["conventions"]
    changes = [f"{field}={text_of(value, None)}" for field, value in row.changes.items()]
    configuration = " ".join([row.config, *changes])
    own_remarks = [*(explanations[name] for name in row.conventions), row.reason]
    if len(configuration) > _MAX_WIDTH:
        own_remarks.append(f"{configuration}.")
        configuration = f"{row.config} ..."
    marks = []
    for remark in filter(None, own_remarks):
        if remark not in remarks:
            remarks.append(remark)
        marks.append(f"[{remarks.index(remark) + 1}]")
    printed, differs = row.printed_multiply_adds, row.as_counted != row.multiply_adds
    views = f" / {row.views}" if row.views > 1 else ""
    return (
        row.model,
        configuration,
        f"{row.parameters:,}",
        row.printed_parameters.text if row.printed_parameters else "",
        _ratio(row.parameters_ratio),
        f"{row.multiply_adds / 1e9:.3f} G",
        printed.text + views if printed else "",
        _ratio(row.multiply_adds_ratio),
        f"{row.as_counted / 1e9:.3f} G" if differs else "",
        _ratio(row.as_counted_ratio) if differs else "",
        f"{row.source}, {row.place}",
        "".join(marks),
    )


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.4f}"
