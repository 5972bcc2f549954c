"""Weights in files: names, layouts, and the files themselves."""

from vtnp.checkpoints.files import FileError, load, read_header, replacing, save

__all__ = ["FileError", "load", "read_header", "replacing", "save"]
