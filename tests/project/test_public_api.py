"""The public surface is what `__all__` says, and importing it is light."""

import json
import subprocess
import sys

import vtnp
from vtnp._registry.spec import registry

HEAVY = {"cupy", "dask", "jax", "matplotlib", "scipy", "torch", "transformers"}


def in_fresh_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_all_is_sorted_and_real():
    assert vtnp.__all__ == sorted(set(vtnp.__all__))
    missing = [name for name in vtnp.__all__ if not hasattr(vtnp, name)]
    assert not missing


def test_all_is_all():
    """Every public name is in `__all__`, but for modules and what loads them."""
    public = {
        name
        for name, value in vars(vtnp).items()
        if not name.startswith("_") and not isinstance(value, type(sys))
    }
    modules = {name for name in vtnp.__all__ if isinstance(getattr(vtnp, name), type(sys))}
    assert public - {"Any", "TYPE_CHECKING", "import_module"} == set(vtnp.__all__) - modules


def test_every_formula_is_public():
    assert len(vtnp.formulas()) == len(registry) > 0
    for entry in registry.values():
        assert getattr(getattr(vtnp, entry.module), entry.function.__name__) is entry.function
        assert entry.id == entry.function.__name__.replace("_", "-")


def test_import_is_light():
    loaded = json.loads(
        in_fresh_process(
            "import time; start = time.perf_counter(); import vtnp, sys, json;"
            "print(f'import vtnp: {time.perf_counter() - start:.2f} s', file=sys.stderr);"
            "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
        )
    )
    assert "vtnp" in loaded
    assert not HEAVY & set(loaded)


def test_import_reads_no_page():
    opened = in_fresh_process(
        "import sys; seen = []\n"
        "sys.addaudithook(lambda event, args: event == 'open' and seen.append(str(args[0])))\n"
        "import vtnp; print(sum(name.endswith('.md') for name in seen))"
    )
    assert opened.strip() == "0"
