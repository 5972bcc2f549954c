"""Every formula once more, with 50 digits: what its page says, in arrays of mpmath's numbers.

One module a chapter, one function a formula, with the formula's name and arguments. Floating-point
arrays come as object arrays of `mp.mpf`, and so do the results.
"""
