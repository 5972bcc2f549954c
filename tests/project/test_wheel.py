"""The wheel is whole: away from the checkout it has its code, its pages and its types."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import vtnp
from vtnp.claims import claims

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that knows nothing of this process's paths, and return what it prints."""
    environment = {name: x for name, x in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    (path,) = folder.glob("*.whl")
    return path


def test_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        licenses = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    assert licenses
    assert "vtnp/py.typed" in names
    assert {Path(name).parts[0] for name in names} == {"vtnp"}
    kinds = (".py", ".md", ".toml", ".schema.json", "py.typed")
    assert all(name.endswith(kinds) for name in names), names
    pages = {name.removeprefix("vtnp/spec_pages/") for name in names if "/spec_pages/" in name}
    folder = ROOT / "spec"
    assert pages == {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_installed_wheel_has_its_pages(wheel, tmp_path):
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    (site,) = environment.glob("lib/python*/site-packages")
    # Dependencies come from here; a .pth that is itself found by a .pth is not read, so that a
    # checkout installed for editing stays out of reach.
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("\n".join(sorted(folders)))
    python = environment / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install"),
        *("--no-deps", "--no-index", "--quiet", wheel),
        cwd=tmp_path,
    )
    told = json.loads(
        run(
            *(python, "-I", "-c"),
            "import json, sys, numpy, vtnp, vtnp._registry.pages, vtnp.claims\n"
            "y = vtnp.encoder.softmax(numpy.asarray([0.0, 0.0]))\n"
            "print(json.dumps([{f.id: f.page for f in vtnp.formulas()}, y.tolist(), sys.path,\n"
            "    len(vtnp.claims.claims), sorted({'hypothesis', 'pytest'} & set(sys.modules)),\n"
            "    [m.__file__ for n, m in sys.modules.items() if n.partition('.')[0] == 'vtnp']]))",
            cwd=tmp_path,
        )
    )
    pages, y, path, checks, test_tools, files = told
    assert pages == {formula.id: formula.page for formula in vtnp.formulas()}
    assert y == [0.5, 0.5]
    assert checks == len(claims)
    assert not test_tools
    assert str(ROOT) not in path
    assert all(Path(file).is_relative_to(environment) for file in files), files
