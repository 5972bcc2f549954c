"""Name tables of published implementations.

A table belongs to a layout of vtnp.checkpoints, under its name, together with a prefix that only
some of the candidates have before the names of their modules. Where the models of one layout
differ, each has a table.
"""

from collections.abc import Mapping
from typing import Any

from vtnp.verify.models.name_table import NameTable, read_table
from vtnp.verify.models.tables import (
    longnet,
    motionformer,
    mvit,
    nystromformer,
    timesformer,
    vivit,
)

_TABLES: Mapping[str, Mapping[str, tuple[str | Mapping[str, str], str]]] = {
    "timesformer": timesformer.TABLES,
    "vivit": vivit.TABLES,
    "motionformer": motionformer.TABLES,
    "mvit": mvit.TABLES,
    "nystromformer": nystromformer.TABLES,
    "longnet": longnet.TABLES,
}


def table_of_layout(model: str, config: Any, layout: str) -> NameTable:
    """Return the table of a layout; one without lines where vtnp has none."""
    if layout not in _TABLES.get(model, {}):
        return NameTable(())
    found, prefix = _TABLES[model][layout]
    text = found if isinstance(found, str) else found[config.model]
    return read_table(text, f"{model}, {layout}", NameTable((), prefixes=(prefix,)))
