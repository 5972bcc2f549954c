"""Published weights: their layouts, and the files that hold them."""

from vtnp.checkpoints.files import load, read_header, save
from vtnp.checkpoints.layouts import from_published, layouts, tensor_shapes, to_published
from vtnp.checkpoints.mapping import LayoutError, Problem
from vtnp.checkpoints.opening import FileError
from vtnp.checkpoints.replacement import replacing
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
