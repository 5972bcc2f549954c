"""Interceptors: handlers that see every call of a formula, and may change it.

    def without_scale(call, proceed):
        if call.id == "attention-weights":
            call = call.replace(arguments={**call.arguments, "scale": 1.0})
        return proceed(call)

    with vtnp.intercept(without_scale):
        vtnp.encoder.attention(Q, K, V)

Handlers live in a context variable, so that each thread and each task has its own. With no handler
there is no path and no bookkeeping.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Self


class Call(NamedTuple):
    """One call of a formula, as a handler sees it.

    Attributes
    ----------
    id : str
        The formula.
    arguments : Mapping[str, Any]
        What the caller passed, by name; what was left out is not there.
    path : str
        The calls around it and itself, outermost first, such as
        ``"divided-layer/attention-sublayer:2/space-attention"``. The number tells the calls of one
        formula in one caller apart; the first has none.
    within : tuple of str
        The ids of the calls around it, outermost first.
    function : Callable
        What computes the result: the formula's own function unless a handler replaced it.
    checked : bool
        Whether arguments and result are held against the formula's signature.
    """

    id: str
    arguments: Mapping[str, Any]
    path: str
    within: tuple[str, ...]
    function: Callable[..., Any]
    checked: bool = True

    def replace(self, **changes: Any) -> Self:
        """Return the call with some attributes changed."""
        return self._replace(**changes)


Proceed = Callable[[Call], Any]
Handler = Callable[[Call, Proceed], Any]


class _Frame(NamedTuple):
    """A call being made: its path, its id after those around it, and how often it called each."""

    path: str
    ids: tuple[str, ...]
    counts: dict[str, int]


handlers: ContextVar[tuple[Handler, ...]] = ContextVar("vtnp_handlers", default=())
_frame: ContextVar[_Frame] = ContextVar("vtnp_frame")


@contextmanager
def intercept(handler: Handler) -> Iterator[None]:
    """Let a handler see every call of a formula within a `with` block, in this thread or task.

    Parameters
    ----------
    handler : Callable
        Takes a `Call` and `proceed`, which takes a `Call` and returns its result. The handler may
        observe, pass a changed call on, return something else, or never proceed.

    Notes
    -----
    Of several handlers the one entered last sees a call first, and proceeds to the one before it.
    Formulas that a handler itself calls are seen by all handlers; `call.within` tells it so.
    A generator that yields within the block leaves the handler in place for whoever runs it.

    Examples
    --------
    >>> import numpy as np, vtnp
    >>> seen = []
    >>> def note(call, proceed):
    ...     seen.append(call.path)
    ...     return proceed(call)
    >>> with vtnp.intercept(note):
    ...     _ = vtnp.encoder.attention(np.eye(2), np.eye(2), np.eye(2))
    >>> seen
    ['attention', 'attention/attention-weights', 'attention/attention-weights/softmax']
    """
    before = handlers.get()
    token = handlers.set((*before, handler))
    # The first handler begins to count calls.
    start = None if before else _frame.set(_Frame("", (), {}))
    try:
        yield
    finally:
        if start is not None:
            _frame.reset(start)
        handlers.reset(token)


def unchecked() -> Any:
    """Switch the checks of arrays off within a `with` block, in this thread or task.

    Returns
    -------
    context manager
        To be entered by `with`.
    """
    return intercept(_without_checks)


def _without_checks(call: Call, proceed: Proceed) -> Any:
    return proceed(call.replace(checked=False))


def handle(
    id: str, function: Callable[..., Any], arguments: Mapping[str, Any], compute: Proceed
) -> Any:
    """Pass a call through all handlers; compute: what the last of them proceeds to."""
    around = _frame.get()
    count = around.counts[id] = around.counts.get(id, 0) + 1
    name = id if count == 1 else f"{id}:{count}"
    path = f"{around.path}/{name}" if around.path else name
    call = Call(id, arguments, path, around.ids, function)
    token = _frame.set(_Frame(path, (*around.ids, id), {}))
    try:
        return _proceed(handlers.get(), compute)(call)
    finally:
        _frame.reset(token)


def _proceed(stack: tuple[Handler, ...], compute: Proceed) -> Proceed:
    if not stack:
        return compute
    return lambda call: stack[-1](call, _proceed(stack[:-1], compute))
