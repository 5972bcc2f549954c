"""Which parameter of a candidate takes which argument of the formula."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from vtnp._registry.errors import UsageError
from vtnp._registry.spec import Entry

LIKE = "like"  # an argument that only says which library to answer in
Parameters = dict[str, str | None]  # by the formula's arguments; None for one passed by position
_ALIASES = {"q": "query", "k": "key", "v": "value", "x": "input", "z": "x"}


def matched_parameters(
    function: Callable[..., Any],
    entry: Entry,
    names: Mapping[str, str],
    taken: Collection[str],
    fixed: Collection[str],
) -> Parameters:
    """Match the formula's arguments to a candidate's parameters: by name, then in order.

    names: argument -> parameter, as the user says. taken: parameters that are set otherwise.
    fixed: options that the candidate need not be passed.
    Raises UsageError for an argument that the formula needs and no parameter is left for.
    """
    formula = inspect.signature(entry.function).parameters
    unknown = [name for name in names if name not in formula]
    if unknown:
        known = ", ".join(formula)
        raise UsageError(f"names: {entry.id} has no argument {', '.join(unknown)}; it has {known}")
    required = [name for name, each in formula.items() if each.default is each.empty]
    required = [name for name in required if name not in fixed]
    try:
        parameters = dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # written in C, without a signature
        return {name: names.get(name) for name in required} | dict(names)
    variadic = inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL
    free = [
        name for name, each in parameters.items() if each.kind not in variadic and name not in taken
    ]
    found: Parameters = {}
    for name in formula:
        parameter = names.get(name) or _of_same_name(name, free)
        if parameter:
            found[name] = parameter
            free = [each for each in free if each != parameter]
    for name in required:
        if name not in found and name != LIKE:
            found[name] = _next_free(entry, name, parameters, free)
    return _in_order(found, parameters)


def _of_same_name(name: str, free: Sequence[str]) -> str | None:
    wanted = {name.lower(), _ALIASES.get(name.lower(), name.lower())}
    return next((each for each in free if each.lower() in wanted), None)


def _next_free(
    entry: Entry, name: str, parameters: Mapping[str, inspect.Parameter], free: list[str]
) -> str | None:
    """Take the next free parameter for an argument that no parameter is named like."""
    kinds = {each.kind for each in parameters.values()}
    takes_any_name = inspect.Parameter.VAR_KEYWORD in kinds
    for parameter in free:
        each = parameters[parameter]
        is_required = each.default is each.empty or not takes_any_name
        if each.kind is not each.KEYWORD_ONLY and is_required:
            free.remove(parameter)
            return parameter
    if takes_any_name:
        return name
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return None
    arrays = {argument.name for argument in entry.signature.arguments}
    or_fixed = "" if name in arrays else f", or options={{{name!r}: ...}} where it is fixed"
    raise UsageError(
        f"{entry.id} needs {name}, and no parameter of the candidate is left for it "
        f"({', '.join(parameters)}): pass names={{{name!r}: ...}}{or_fixed}"
    )


def _in_order(found: Parameters, parameters: Mapping[str, inspect.Parameter]) -> Parameters:
    """Sort arguments as the candidate's parameters are; None for those passed by position."""
    order = {parameter: i for i, parameter in enumerate(parameters)}
    kinds = [each.kind for each in parameters.values()]
    positional = {name for name, each in parameters.items() if each.kind is each.POSITIONAL_ONLY}
    if None in found.values():  # and those before *args
        positional |= set(list(order)[: kinds.index(inspect.Parameter.VAR_POSITIONAL)])
    ordered = sorted(found, key=lambda name: order.get(found[name] or "", len(order)))
    return {name: None if found[name] in positional else found[name] for name in ordered}


def required_options(
    function: Callable[..., Any], entry: Entry, parameters: Parameters
) -> dict[str, Any]:
    """Return what a candidate requires and the formula does not, with the formula's defaults."""
    try:
        own = inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C, without a signature
        return {}
    formula = inspect.signature(entry.function).parameters
    required = {name for name, each in own.items() if each.default is each.empty}
    return {
        name: formula[name].default
        for name, parameter in parameters.items()
        if parameter in required and formula[name].default is not inspect.Parameter.empty
    }


def size_parameters(
    function: Callable[..., Any], letters: Collection[str], names: Mapping[str, str]
) -> dict[str, str]:
    """Return the parameters that take the sizes of axes, by the letters of the axes.

    They are those that the user names, or that are named like letters.
    """
    named = {letter: names[letter] for letter in names if letter in letters}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # written in C, without a signature
        return named
    free = [name for name in parameters if name not in {*names.values()}]
    return {name: name for name in free if name in letters and name not in named} | named


def axis_letters(entry: Entry) -> set[str]:
    """Return the letters of a formula's axes that are not also names of its arguments."""
    shapes = [argument.shape for argument in entry.signature.arguments]
    letters = {axis for shape in shapes for axis in shape.before + shape.after}
    arguments = inspect.signature(entry.function).parameters
    return {axis for axis in letters if not axis.isdigit() and axis not in arguments}


def refuse_unknown_options(entry: Entry, options: Collection[str]) -> None:
    """Raise UsageError for what is not an option of the formula."""
    arrays = {argument.name for argument in entry.signature.arguments}
    known = [name for name in inspect.signature(entry.function).parameters if name not in arrays]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise UsageError(
            f"options: {entry.id} has no option {', '.join(unknown)}; "
            f"it has {', '.join(known) or 'none'}"
        )
