"""A candidate of PyTorch: its weights out of a file, and what its modules make of a clip."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtnp._registry.errors import UsageError
from vtnp.checkpoints.files import one_line
from vtnp.verify.errors import CandidateError
from vtnp.verify.models.axes import rearranged
from vtnp.verify.models.names import Name, Names

_SHOWN = 3  # names in a message


Take = Callable[[Name, NDArray[Any]], None]


class Module:
    """A module that a factory has made, with the weights in it.

    tensors: the weights, by the layout's names; a factory that takes an argument is given the file
    instead, and loads them itself.
    Raises UsageError where there is no torch, where the factory does not make a module, and where
    the file lacks weights of what is called.
    """

    def __init__(
        self, factory: Callable[..., Any], file: Path, tensors: Mapping[str, Any], names: Names
    ) -> None:
        try:
            self.torch = import_module("torch")
        except ModuleNotFoundError:
            raise UsageError("torch not found: pip install 'vtnp[peers]'") from None
        self.names = names
        takes_file = _required(factory) == 1
        with _told():
            module = factory(str(file)) if takes_file else factory()
        if not isinstance(module, self.torch.nn.Module):
            raise UsageError(f"the factory returned {type(module).__name__}, no torch.nn.Module")
        self.module = module.eval()
        self.notes: list[str] = []
        if not takes_file:
            self._load(tensors, file)

    def _load(self, tensors: Mapping[str, Any], file: Path) -> None:
        here = {self.names.short(name): x for name, x in tensors.items()}
        state = self.module.state_dict()
        called = f"{self.names.call}." if self.names.call else ""
        known = {name: self.names.short(name) for name in state}
        needed = {name: short for name, short in known.items() if short.startswith(called)}
        missing = [name for name, short in needed.items() if short not in here]
        if missing:
            raise UsageError(f"{file} lacks weights of the candidate: {_few(missing)}")
        for name, short in known.items():
            if short in here and tuple(state[name].shape) != here[short].shape:
                raise UsageError(
                    f"{name}: the candidate has {tuple(state[name].shape)}, "
                    f"{file} has {here[short].shape}"
                )
        loaded = {n: self.torch.tensor(here[s]) for n, s in known.items() if s in here}
        self.module.load_state_dict(loaded, strict=False)
        unused = sorted(here.keys() - set(known.values()))
        if unused:
            self.notes.append(f"the candidate has no place for {_few(unused)}")

    @property
    def dtype(self) -> str:
        """The dtype of its weights."""
        real = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        return str(next(real, self.torch.float32)).removeprefix("torch.")

    def bring_to(self, dtype: str) -> None:
        """Let it compute in a dtype."""
        self.module.to(getattr(self.torch, dtype))

    def run(self, x: NDArray[Any], take: Take) -> None:
        """Hand on what the modules that the table names make of an input.

        Raises CandidateError where the candidate raises.
        """
        modules = {self.names.short(name): each for name, each in self.module.named_modules()}
        if self.names.call and self.names.call not in modules:
            raise UsageError(f"the candidate has no module {self.names.call!r} to call")
        called = modules[self.names.call]
        with ExitStack() as stack, self.torch.no_grad():
            for short, module in modules.items():
                for name in self.names.lines:
                    i = name.matches(short)
                    if i is not None:
                        handle = module.register_forward_hook(self._hook(name.at(i), take))
                        stack.callback(handle.remove)
            with _told():
                clip = self.torch.tensor(x).to(getattr(self.torch, self.dtype))
                called([clip] if self.names.in_list else clip)

    def _hook(self, name: Name, take: Take) -> Callable[..., None]:
        def hook(_: Any, inputs: Any, output: Any) -> None:
            x = inputs[0] if name.port == "in" else _part(output, name.port)
            if isinstance(x, self.torch.Tensor):
                x = x.detach().cpu()
                take(name, (x.float() if x.dtype == self.torch.bfloat16 else x).numpy())

        return hook


@contextmanager
def _told() -> Iterator[None]:
    """Turn whatever other people's code raises into one line."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {one_line(error)}"
        raise CandidateError(f"the candidate raised {told}") from error


def _part(output: Any, port: str) -> Any:
    if hasattr(output, "to_tuple"):
        output = output.to_tuple()
    if isinstance(output, tuple | list):
        number = int(port or 0)
        return output[number] if number < len(output) else None
    return None if port else output


def _required(factory: Callable[..., Any]) -> int:
    """Count the arguments that a factory cannot do without."""
    try:
        known = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return 0
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(each.kind in kinds and each.default is each.empty for each in known)


def _few(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def clip_for(x: NDArray[Any], names: Names) -> NDArray[Any]:
    """Bring a clip to how the candidate takes it."""
    if not names.input:
        return x
    try:
        return np.ascontiguousarray(rearranged(x, names.input))
    except ValueError as error:
        raise UsageError(f"input = {names.input}: {error}") from None
