"""Computed beside published: parameters and multiply-adds of the models that papers print."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vtnp.cost.conventions import MULTIPLY_ADDS, PARAMETERS
from vtnp.cost.models import model_cost

_UNITS = {"": 1, "M": 10**6, "G": 10**9, "T": 10**12}


@dataclass(frozen=True)
class Printed:
    """A figure as it is printed, for instance "0.59 T"."""

    text: str

    @property
    def value(self) -> float:
        digits, unit = self._split()
        return float(digits) * _UNITS[unit]

    def digits_of(self, number: float) -> str:
        """Print another number in this one's unit and to its last digit."""
        digits, unit = self._split()
        decimals = len(digits.partition(".")[2])
        return f"{number / _UNITS[unit]:.{decimals}f} {unit}".strip()

    def _split(self) -> tuple[str, str]:
        digits, _, unit = self.text.partition(" ")
        return digits, unit


@dataclass(frozen=True)
class Row:
    """One model of one source.

    model: as the source calls it. source, place: bibliography key, and where in it. config,
    changes: what was computed. parameters, multiply_adds: computed, the latter for one view.
    parameters_as_counted, as_counted: the same with what the source counts beyond, by conventions.
    printed_parameters, printed_multiply_adds: the source's, the latter for so many views. reason:
    why the two differ, or what is known of it. unexplained: that it is not known.
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
        """Computed parameters over printed ones."""
        printed = self.printed_parameters
        return self.parameters / printed.value if printed else None

    @property
    def multiply_adds_ratio(self) -> float | None:
        """Computed multiply-adds of all views over printed ones."""
        return self._ratio(self.multiply_adds)

    @property
    def as_counted_ratio(self) -> float | None:
        """The same with what the source counts beyond."""
        return self._ratio(self.as_counted)

    @property
    def parameters_agree(self) -> bool:
        """Whether the parameters are the printed ones to the last digit."""
        printed = self.printed_parameters
        return not printed or printed.digits_of(self.parameters_as_counted) == printed.text

    @property
    def multiply_adds_agree(self) -> bool:
        """Whether the multiply-adds, as the source counts, are the printed to the last digit."""
        printed = self.printed_multiply_adds
        return not printed or printed.digits_of(self.as_counted * self.views) == printed.text

    def _ratio(self, of_one_view: float) -> float | None:
        printed = self.printed_multiply_adds
        return of_one_view * self.views / printed.value if printed else None


@cache
def published() -> Mapping[str, Any]:
    """Return what published.toml holds: figures, conventions and notes."""
    return tomllib.loads((Path(__file__).parent / "published.toml").read_text(encoding="utf-8"))


def rows() -> list[Row]:
    """Compute every model of which a figure was published."""
    return [_row(figure) for figure in published()["figures"]]


def _row(figure: Mapping[str, Any]) -> Row:
    changes = {field: _field(value) for field, value in figure.get("changes", {}).items()}
    priced = model_cost(figure["config"], **changes)
    conventions = tuple(figure.get("conventions", ()))
    multiply_adds = priced.cost.multiply_adds
    return Row(
        model=figure["model"],
        source=figure["source"]["key"],
        place=figure["source"]["place"],
        config=figure["config"],
        changes=changes,
        conventions=conventions,
        parameters=priced.parameters,
        parameters_as_counted=priced.parameters
        + sum(PARAMETERS[name](priced.config) for name in conventions if name in PARAMETERS),
        printed_parameters=_printed(figure.get("parameters")),
        multiply_adds=multiply_adds,
        as_counted=multiply_adds
        + sum(
            MULTIPLY_ADDS[name](priced.config, priced.cost)
            for name in conventions
            if name in MULTIPLY_ADDS
        ),
        printed_multiply_adds=_printed(figure.get("multiply_adds")),
        views=figure.get("views", 1),
        reason=figure.get("reason", ""),
        unexplained=figure.get("unexplained", False),
    )


def _field(value: Any) -> Any:
    """Read a field of a configuration as TOML can write it."""
    if value == "none":
        return None
    return tuple(map(_field, value)) if isinstance(value, list) else value


def _printed(text: str | None) -> Printed | None:
    return None if text is None else Printed(text)


# --- As text --------------------------------------------------------------------------------------

_HEADS = (
    "model", "configuration", "parameters", "printed", "ratio", "multiply-adds", "printed",
    "ratio", "as counted there", "ratio", "source", "",
)  # fmt: skip


_WIDEST = 60  # of a configuration that has room in its column


def to_text() -> str:
    """Lay all rows out in columns, with what there is to say of them below."""
    remarks: list[str] = []
    lines = [_HEADS, *(_cells(row, remarks) for row in rows())]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    laid_out = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    numbered = [f"[{i}] {text}" for i, text in enumerate(remarks, 1)]
    return "\n".join([*laid_out, "", *numbered, "", published()["notes"].strip()])


def to_json() -> str:
    """Return all rows as a list of objects, figures printed elsewhere as they are printed."""
    return json.dumps([_object(row) for row in rows()], indent=2, ensure_ascii=False)


def _object(row: Row) -> dict[str, Any]:
    plain = {field: value for field, value in vars(row).items() if value is not None}
    plain |= {field: value.text for field, value in plain.items() if isinstance(value, Printed)}
    ratios = ("parameters_ratio", "multiply_adds_ratio", "as_counted_ratio")
    return plain | {name: getattr(row, name) for name in ratios}


def _cells(row: Row, remarks: list[str]) -> tuple[str, ...]:
    words = published()["conventions"]
    configuration = " ".join([row.config, *(f"{k}={_shown(v)}" for k, v in row.changes.items())])
    said = [*(words[name] for name in row.conventions), row.reason]
    if len(configuration) > _WIDEST:
        said.append(f"{configuration}.")
        configuration = f"{row.config} ..."
    marks = []
    for remark in filter(None, said):
        if remark not in remarks:
            remarks.append(remark)
        marks.append(f"[{remarks.index(remark) + 1}]")
    printed, beyond = row.printed_multiply_adds, row.as_counted != row.multiply_adds
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
        f"{row.as_counted / 1e9:.3f} G" if beyond else "",
        _ratio(row.as_counted_ratio) if beyond else "",
        f"{row.source}, {row.place}",
        "".join(marks),
    )


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.4f}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
