"""Tables that several implementations share but for the names of their modules."""

from collections.abc import Mapping


def filled(text: str, words: Mapping[str, str]) -> str:
    """Put names in the place of words in braces; those that come last may stand within others."""
    for word, name in words.items():
        text = text.replace(f"{{{word}}}", name)
    return text
