"""`@spec(id)`: registers a formula, and wraps each of its calls."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple, ParamSpec, TypeVar

from vtnp._array.values import on_device_of
from vtnp._registry.calls import Call, Computation, handle, handlers
from vtnp._registry.checks import Signature
from vtnp._registry.contract import Contract
from vtnp._registry.errors import FormulaError

P = ParamSpec("P")
R = TypeVar("R")


class Entry(NamedTuple):
    """What the registry holds of a formula."""

    id: str
    module: str
    function: Callable[..., Any]
    signature: Signature
    requires: tuple[str, ...] = ()

    @property
    def page_path(self) -> str:
        """The path of its page."""
        return f"spec/{self.module}/{self.id}.md"


registry: dict[str, Entry] = {}


def spec(id: str, *, requires: Sequence[str] = ()) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a function as the formula `id` and check each call against its signature.

    requires: conditions on arguments, options and axes, as expressions; the page has the same.
    The formula raises ShapeError where axes do not fit, TypeError where an argument is not an array
    or has the wrong kind of dtype, or where dtypes, libraries or devices are mixed, and
    FormulaError for an option of another type than the signature's, for params with other keys, and
    for a condition that does not hold.
    """

    def register(function: Callable[P, R]) -> Callable[P, R]:
        if id in registry:
            raise ValueError(f"formula {id!r} is registered twice")
        module = function.__module__.rpartition(".")[2]
        contract = Contract(f"{id} (spec/{module}/{id}.md)", function, requires)

        def direct(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return contract.compute(function, contract.read_options(args, kwargs), kwargs)

        def innermost(call: Call) -> Any:
            arguments = dict(call.arguments)
            contract.read_options((), arguments)
            if call.checked:
                return contract.compute(call.function, (), arguments)
            with on_device_of(arguments):
                return call.function(**arguments)

        computation = Computation(id, function, contract.bound, direct, innermost)

        @wraps(function)
        def formula(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                if handlers.get():
                    return handle(computation, args, kwargs)  # type: ignore[no-any-return]
                return direct(args, kwargs)  # type: ignore[no-any-return]
            except FormulaError as error:
                error.pass_through(contract.what)
                raise

        registry[id] = Entry(id, module, formula, contract.signature, contract.requires)
        return formula

    return register
