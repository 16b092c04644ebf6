"""What a wheel and an sdist must and must not hold: check_contents.py FILE...

The wheel is for running: compiled modules, stubs, no sources. The sdist is for building and
testing: all sources, nothing that was generated.
"""

from __future__ import annotations

import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path, PurePosixPath


def wheel_faults(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("/WHEEL"))).decode()
    suffixes = {PurePosixPath(name).suffix for name in names if ".dist-info/" not in name}
    sources = (".c", ".pyx", ".pxd", ".h")
    faults = [f"it holds {kind} files" for kind in sources if kind in suffixes]
    compiled = {PurePosixPath(name).name.split(".")[0] for name in names if name.endswith(".so")}
    modules = {path.stem for path in Path("seafoam/_core").glob("*.pyx")}
    if compiled != modules:
        faults.append(f"its modules are not the tree's: {sorted(compiled ^ modules)}")
    stubs = {path.name for path in Path("seafoam/_core").glob("*.pyi")}
    absent = stubs - {PurePosixPath(name).name for name in names}
    if absent or "seafoam/py.typed" not in names:
        faults.append(f"it lacks py.typed or stubs {sorted(absent)}")
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    if f"Tag: {version}-{version}-{platform}" not in metadata \
            or "Root-Is-Purelib: false" not in metadata:
        faults.append(f"its tags are not {version}-{version}-{platform}: {metadata}")
    return faults + [f"it holds {name}" for name in names
                     if not name.startswith(("seafoam/", "seafoam_kv-"))]


def sdist_faults(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {str(file) for folder in ("seafoam", "tests", "bench", "scripts", "docs")
              for file in Path(folder).rglob("*")
              if file.is_file() and "__pycache__" not in file.parts
              and file.suffix not in (".so", ".pyc", ".o")}
    wanted |= {"setup.py", "pyproject.toml", "Makefile", "README.md", "LICENSE", ".ci/run"}
    faults = [f"it lacks {sorted(wanted - names)}"] if wanted - names else []
    made = [name for name in names if name.endswith((".so", ".pyc", ".o"))
            or name.startswith("build/") or (name.startswith("seafoam/") and name.endswith(".c"))]
    return faults + ([f"it holds what is generated: {sorted(made)}"] if made else [])


def main() -> int:
    status = 0
    for path in map(Path, sys.argv[1:]):
        faults = wheel_faults(path) if path.suffix == ".whl" else sdist_faults(path)
        print(f"{path.name}: {'; '.join(faults) or 'holds what it should'}")
        status |= bool(faults)
    return status


if __name__ == "__main__":
    sys.exit(main())
