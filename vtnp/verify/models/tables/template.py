"""Templates of tables that several implementations share, with other names of modules."""

from collections.abc import Mapping


def filled(template: str, names: Mapping[str, str]) -> str:
    """Replace words in braces by names, in order; a name may contain the words of later ones."""
    for word, name in names.items():
        template = template.replace(f"{{{word}}}", name)
    return template
