"""Weights in files: names, layouts, and the files themselves."""

from vtnp.checkpoints.files import FileError, load, read_header, replacing, save
from vtnp.checkpoints.layouts import from_theirs, layouts, shapes_of, to_theirs
from vtnp.checkpoints.mapping import LayoutError, Problem
from vtnp.checkpoints.weights import load_weights

__all__ = [
    "FileError",
    "LayoutError",
    "Problem",
    "from_theirs",
    "layouts",
    "load",
    "load_weights",
    "read_header",
    "replacing",
    "save",
    "shapes_of",
    "to_theirs",
]
