"""Where published implementations have our quantities: the tables that vtnp brings along.

A table goes with a layout of vtnp.checkpoints, under its name, and with a prefix that only some of
the candidates have before their modules' names. Where the models of one layout differ, there is one
table for each.
"""

from collections.abc import Mapping
from typing import Any

from vtnp.verify.models.names import Names, read
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


def usual(model: str, config: Any, layout: str) -> Names:
    """Return the table of a layout; without lines where vtnp brings none along."""
    if layout not in _TABLES.get(model, {}):
        return Names(())
    found, prefix = _TABLES[model][layout]
    text = found if isinstance(found, str) else found[config.model]
    return read(text, f"{model}, {layout}", Names((), prefixes=(prefix,)))
