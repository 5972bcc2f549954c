"""One function: is it right, and if not, which mistake makes its numbers."""
