"""Builds the compiled modules once for each kind of instrumented build, beside the plain one.

Owns build/lib-<mode> and build/temp-<mode>, nothing else. Never builds in place: an instrumented
module must not end up where the plain tests import from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHECKER_SOURCE = Path("tests", "model", "checker.c")
SHIM_SOURCE = Path("tests", "faults", "shim.c")


class BuildFailed(Exception):
    """The compiler or Cython refused; the message is the end of what they printed."""


def _run(command: list[str], root: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=root, env=environment, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise BuildFailed(f"{' '.join(command)}\n{done.stdout[-4000:]}")


def library_folder(mode: str, root: Path = ROOT) -> Path:
    """Where a mode's modules are, to be put first on PYTHONPATH."""
    return root / "build" / f"lib-{mode}"


def map_modules() -> tuple[str, ...]:
    """The modules that the shared map consists of."""
    core = ROOT / "seafoam" / "_core"
    return ("limits", "status", "pack", "segment", "arena", "wire_snapshot", *sorted(
        path.stem for path in core.glob("map*.pyx")))


def build_checker() -> Path:
    """The model checker's library; there is one for all trees, as the modules and the driver
    must find the same.
    """
    return _build_library(ROOT / CHECKER_SOURCE, library_folder("model") / "libseafoam_model.so",
                          "-std=c11", "-fvisibility=hidden")


def build_shim() -> Path:
    """The library that stands between a program and its files."""
    return _build_library(ROOT / SHIM_SOURCE, library_folder("faults") / "libseafoam_faults.so",
                          "-std=gnu11")


def _build_library(source: Path, target: Path, *options: str) -> Path:
    """Compiles one of the tests' own C files, unless the library is newer; the library."""
    if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    compiler = os.environ.get("CC", "cc")
    # Others may be loading the one that is there.
    made = target.with_suffix(f".{os.getpid()}")
    _run([compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", *options,
          str(source), "-o", str(made)], ROOT, dict(os.environ))
    made.rename(target)
    return target


def build(mode: str, modules: tuple[str, ...] = (), extra: tuple[str, ...] = (),
          root: Path = ROOT) -> Path:
    """Builds these modules (all, if none is named) in a mode of setup.py; the library folder.

    extra: the tests' own .pyx files, paths below the root; they become seafoam._core modules of
    this library folder alone. What is up to date is not built again. The Python files are copied
    beside the modules, so that the folder is a whole package.
    """
    target = library_folder(mode, root)
    environment = dict(os.environ, SEAFOAM_BUILD=mode, SEAFOAM_ONLY=",".join(modules),
                       SEAFOAM_EXTRA=" ".join(extra))
    if mode == "model":
        environment["SEAFOAM_MODEL_LIBRARY"] = str(build_checker())
    _run([sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(target),
          "--build-temp", str(root / "build" / f"temp-{mode}")], root, environment)
    for path in (root / "seafoam").rglob("*.py"):
        copied = target / path.relative_to(root)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copied)
    return target


def seed(mode: str, root: Path) -> None:
    """Gives another tree what this one has built in a mode, where it has built nothing yet."""
    for name in (f"lib-{mode}", f"temp-{mode}", f"cython-{mode}"):
        if not (root / "build" / name).exists():
            shutil.copytree(ROOT / "build" / name, root / "build" / name)


def environment_for(mode: str, root: Path = ROOT) -> dict[str, str]:
    """The environment in which `import seafoam` finds this mode's modules, and tests' modules.

    Start the child in `library_folder(mode)`: `python -m` puts the current folder first.
    """
    paths = [str(library_folder(mode, root)), str(root / "tests"),
             os.environ.get("PYTHONPATH", "")]
    return dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in paths if path),
                SEAFOAM_LIBRARY=str(library_folder(mode, root)), PYTHONDONTWRITEBYTECODE="1",
                SEAFOAM_MODEL_LIBRARY=str(library_folder("model") / "libseafoam_model.so"))


def check_origin() -> None:
    """In a child: the compiled modules are those of the build that is to be tested."""
    from seafoam._core import limits

    wanted = os.environ.get("SEAFOAM_LIBRARY")
    if wanted and not Path(limits.__file__).is_relative_to(wanted):
        raise RuntimeError(f"{limits.__file__} is not below {wanted}")
