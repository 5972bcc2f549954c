"""Published weights: their layouts, and the files that hold them."""

from vtnp.checkpoints.files import FileError, load, read_header, replacing, save
from vtnp.checkpoints.layouts import from_published, layouts, tensor_shapes, to_published
from vtnp.checkpoints.mapping import LayoutError, Problem
from vtnp.checkpoints.weights import load_weights

__all__ = [
    "FileError",
    "LayoutError",
    "Problem",
    "from_published",
    "layouts",
    "load",
    "load_weights",
    "read_header",
    "replacing",
    "save",
    "tensor_shapes",
    "to_published",
]
