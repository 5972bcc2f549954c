"""A candidate in PyTorch: its weights from a file, and what its modules compute from a clip."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._registry.errors import UsageError
from vtnp.verify.errors import CandidateError, in_one_line
from vtnp.verify.models.name_table import NameLine, NameTable
from vtnp.verify.rearrange import rearranged

_SHOWN = 3  # names in a message

Take = Callable[[NameLine, NDArray[Any]], None]


class TorchModule:
    """A module made by a factory, with its weights loaded.

    tensors: the weights, by the layout's names; a factory that takes an argument is passed the file
    instead, and loads them itself.
    Raises UsageError without torch, where the factory does not return a module, and where the file
    lacks weights of the module that is called.
    """

    def __init__(
        self, factory: Callable[..., Any], file: Path, tensors: Mapping[str, Any], table: NameTable
    ) -> None:
        try:
            self.torch = import_module("torch")
        except ModuleNotFoundError:
            raise UsageError("torch not found: pip install 'vtnp[peers]'") from None
        self.table = table
        takes_file = _required(factory) == 1
        with _errors_in_one_line():
            module = factory(str(file)) if takes_file else factory()
        if not isinstance(module, self.torch.nn.Module):
            kind = type(module).__name__
            raise UsageError(f"the factory returned {kind}, expected a torch.nn.Module")
        self.module = module.eval()
        self.notes: list[str] = []
        if not takes_file:
            self._load(tensors, file)

    def _load(self, tensors: Mapping[str, Any], file: Path) -> None:
        available = {self.table.without_prefix(name): x for name, x in tensors.items()}
        state = self.module.state_dict()
        called = f"{self.table.call}." if self.table.call else ""
        known = {name: self.table.without_prefix(name) for name in state}
        needed = {name: bare for name, bare in known.items() if bare.startswith(called)}
        missing = [name for name, bare in needed.items() if bare not in available]
        if missing:
            raise UsageError(f"{file} lacks weights of the candidate: {_first_few(missing)}")
        for name, bare in known.items():
            if bare in available and tuple(state[name].shape) != available[bare].shape:
                raise UsageError(
                    f"{name}: the candidate has shape {tuple(state[name].shape)}, "
                    f"{file} has {available[bare].shape}"
                )
        loaded = {
            name: self.torch.tensor(available[bare])
            for name, bare in known.items()
            if bare in available
        }
        self.module.load_state_dict(loaded, strict=False)
        unused = sorted(available.keys() - set(known.values()))
        if unused:
            self.notes.append(f"not used by the candidate: {_first_few(unused)}")

    @property
    def dtype(self) -> str:
        """The dtype of its parameters."""
        real = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        return str(next(real, self.torch.float32)).removeprefix("torch.")

    def convert_to(self, dtype: str) -> None:
        """Convert its parameters to a dtype."""
        self.module.to(getattr(self.torch, dtype))

    def run(self, x: NDArray[Any], take: Take) -> None:
        """Run on an input; take: is passed the values that the table names.

        Raises CandidateError where the candidate raises.
        """
        named = self.module.named_modules()
        modules = {self.table.without_prefix(name): module for name, module in named}
        if self.table.call and self.table.call not in modules:
            raise UsageError(f"the candidate has no module {self.table.call!r} to call")
        called = modules[self.table.call]
        with ExitStack() as stack, self.torch.no_grad():
            for name, module in modules.items():
                for line in self.table.lines:
                    i = line.matches(name)
                    if i is not None:
                        handle = module.register_forward_hook(self._hook(line.at(i), take))
                        stack.callback(handle.remove)
            with _errors_in_one_line():
                clip = self.torch.tensor(x).to(getattr(self.torch, self.dtype))
                called([clip] if self.table.in_list else clip)

    def _hook(self, line: NameLine, take: Take) -> Callable[..., None]:
        def hook(_: Any, inputs: Any, output: Any) -> None:
            x = inputs[0] if line.port == "in" else _result(output, line.port)
            if isinstance(x, self.torch.Tensor):
                x = x.detach().cpu()
                take(line, (x.float() if x.dtype == self.torch.bfloat16 else x).numpy())

        return hook


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Raise whatever the candidate raises as a CandidateError of one line."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise CandidateError(f"the candidate raised {in_one_line(error)}") from error


def _result(output: Any, port: str) -> Any:
    """Return the result of a module, or one of several by its number."""
    if hasattr(output, "to_tuple"):
        output = output.to_tuple()
    if isinstance(output, tuple | list):
        number = int(port or 0)
        return output[number] if number < len(output) else None
    return None if port else output


def _required(factory: Callable[..., Any]) -> int:
    """Count the arguments that a factory requires."""
    try:
        known = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(each.kind in kinds and each.default is each.empty for each in known)


def _first_few(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def clip_for(x: NDArray[Any], table: NameTable) -> NDArray[Any]:
    """Arrange the axes of a clip as the candidate takes them."""
    if not table.input:
        return x
    try:
        return np.ascontiguousarray(rearranged(x, table.input))
    except ValueError as error:
        raise UsageError(f"input = {table.input}: {error}") from None
