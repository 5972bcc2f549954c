"""Functions put in other functions' place, wherever vtnp's modules hold them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Function = Callable[..., Any]
Instead = tuple[Function, Function]  # a function of vtnp, and what is called in its place
Places = tuple[tuple[dict[Any, Any], Any], ...]


def places(right: Function) -> Places:
    """Find where modules, and tables in them, hold a function, and by which name."""
    modules = [module for name, module in sys.modules.items() if name.startswith("vtnp.")]
    tables = [vars(module) for module in modules]
    tables += [x for table in tables for x in table.values() if type(x) is dict]
    unique = {id(table): table for table in tables}.values()
    return tuple((table, key) for table in unique for key, x in table.items() if x is right)


@contextmanager
def held(where: Places, right: Function, other: Function) -> Iterator[None]:
    """Let these places hold another function."""
    for table, key in where:
        table[key] = other
    try:
        yield
    finally:
        for table, key in where:
            table[key] = right


def once(right: Function, other: Function) -> Function:
    """The other function, within which the right one is what it was."""
    within = False

    def replaced(*args: Any, **kwargs: Any) -> Any:
        nonlocal within
        if within:
            return right(*args, **kwargs)
        within = True
        try:
            return other(*args, **kwargs)
        finally:
            within = False

    return replaced
