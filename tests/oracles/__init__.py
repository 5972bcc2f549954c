"""Every formula once more: index by index, in NumPy, written from its page. Never imports vtnp."""
