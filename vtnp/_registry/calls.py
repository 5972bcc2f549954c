"""Interceptors: handlers that receive every call of a formula, and may change it.

    def without_scale(call, proceed):
        if call.id == "attention-weights":
            call = call.replace(arguments={**call.arguments, "scale": 1.0})
        return proceed(call)

    with vtnp.intercept(without_scale):
        vtnp.encoder.attention(Q, K, V)

Handlers live in a context variable, so that each thread and each task has its own. With no handler
there is no path and no bookkeeping; with handlers of some formulas alone, calls of all others are
nearly as fast.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Self


class Call(NamedTuple):
    """One call of a formula, as a handler receives it.

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
        Whether arguments and result are checked against the formula's signature.
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


class Computation(NamedTuple):
    """How a formula is computed.

    function: as it is written. bound: its arguments by name, of positional and named ones. direct:
    what it makes of those. innermost: the result of a call that all handlers have passed on.
    """

    id: str
    function: Callable[..., Any]
    bound: Callable[[tuple[Any, ...], dict[str, Any]], Mapping[str, Any]]
    direct: Callable[[tuple[Any, ...], dict[str, Any]], Any]
    innermost: Proceed


class _Frame:
    """A call being made, in another one, and how often it has called each formula."""

    __slots__ = ("around", "counts", "id", "number")

    def __init__(self, around: "_Frame | None", id: str, number: int) -> None:
        self.around, self.id, self.number = around, id, number
        self.counts: dict[str, int] = {}

    def path(self) -> str:
        """Return the calls around it and itself, as `Call.path`."""
        if self.around is None:
            return ""
        name = self.id if self.number == 1 else f"{self.id}:{self.number}"
        front = self.around.path()
        return f"{front}/{name}" if front else name

    def ids(self) -> tuple[str, ...]:
        """Return the formulas around it and its own, outermost first."""
        return () if self.around is None else (*self.around.ids(), self.id)


class _Active(NamedTuple):
    handler: Handler
    ids: frozenset[str] | None


handlers: ContextVar[tuple[_Active, ...]] = ContextVar("vtnp_handlers", default=())
_frame: ContextVar[_Frame] = ContextVar("vtnp_frame")


@contextmanager
def intercept(handler: Handler, ids: Collection[str] | None = None) -> Iterator[None]:
    """Pass calls of formulas to a handler within a `with` block, in this thread or task.

    Parameters
    ----------
    handler : Callable
        Takes a `Call` and `proceed`, which takes a `Call` and returns its result. The handler may
        observe, pass a changed call on, return something else, or never proceed.
    ids : collection of str, optional
        The formulas whose calls it receives, by default all. Other calls stay fast.

    Notes
    -----
    Of several handlers the one entered last receives a call first, and proceeds to the one before
    it. Formulas that a handler itself calls go to all handlers, too; `call.within` shows this.
    A generator that yields within the block leaves the handler in place for whoever runs it, until
    it leaves the block. It must do so in the thread or task in which it has entered it: elsewhere,
    leaving raises RuntimeError.

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
    active = _Active(handler, None if ids is None else frozenset(ids))
    if not handlers.get():
        # The first handler begins to count calls.
        _frame.set(_Frame(None, "", 1))
    token = handlers.set((*handlers.get(), active))
    try:
        yield
    finally:
        others = tuple(each for each in handlers.get() if each is not active)
        try:
            handlers.reset(token)
        except ValueError:
            raise RuntimeError(
                "a block of vtnp.intercept or vtnp.unchecked is left in another thread or task "
                "than the one that entered it, where its handler stays"
            ) from None
        # Generators may leave their blocks in any order: what others have entered since stays.
        handlers.set(others)


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


def handle(formula: Computation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Pass a call through all handlers that are to receive it."""
    id, around = formula.id, _frame.get()
    number = around.counts[id] = around.counts.get(id, 0) + 1
    frame = _Frame(around, id, number)
    token = _frame.set(frame)
    try:
        proceed = formula.innermost
        for handler, ids in handlers.get():
            if ids is None or id in ids:
                proceed = _through(handler, proceed)
        if proceed is formula.innermost:
            return formula.direct(args, kwargs)
        arguments = formula.bound(args, kwargs)
        return proceed(Call(id, arguments, frame.path(), around.ids(), formula.function))
    finally:
        _frame.reset(token)


def _through(handler: Handler, proceed: Proceed) -> Proceed:
    return lambda call: handler(call, proceed)
