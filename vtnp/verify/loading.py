"""A candidate by name: package.module:function, or file.py:function."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from vtnp._registry.errors import UsageError
from vtnp.verify.errors import in_one_line


def load(name: str) -> Callable[..., Any]:
    """Import a candidate. Raises UsageError where there is none of that name."""
    where, _, path = name.rpartition(":")
    if not (where and path):
        raise UsageError(f"{name!r}: expected package.module:function or file.py:function")
    found: Any = _from_file(Path(where)) if where.endswith(".py") else _module(where)
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            known = [word for word in dir(found) if not word.startswith("_")]
            raise UsageError(f"{where} has no {attribute}; it has {', '.join(known) or 'nothing'}")
        found = getattr(found, attribute)
    if not callable(found):
        raise UsageError(f"{name} is not callable")
    candidate: Callable[..., Any] = found
    return candidate


def _module(name: str) -> ModuleType:
    if "" not in sys.path:
        sys.path.insert(0, "")  # the current folder, as `python -m` has it
    with _import_errors(name):
        return importlib.import_module(name)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    with _import_errors(str(path)):
        spec.loader.exec_module(module)
    return module


@contextmanager
def _import_errors(name: str) -> Iterator[None]:
    """Raise whatever a module raises while it is imported as a UsageError of one line."""
    try:
        yield
    except ImportError as error:
        raise UsageError(f"cannot import {name}: {error}") from None
    except (Exception, SystemExit) as error:
        raise UsageError(f"cannot import {name}: {in_one_line(error)}") from error
