"""Builds one extension module for each seafoam/_core/*.pyx; all else is in pyproject.toml.

Switches, all environment variables; each mode has a build folder of its own, so that objects of
one never end up in another. Generated C lives below build/ only.

SEAFOAM_BUILD            release (default) | debug | asan | tsan | coverage | model | lint
SEAFOAM_ONLY             build only these modules, comma-separated: "json,map"; "none" builds none
SEAFOAM_EXTRA            build these .pyx files too, space-separated: the tests' own drivers
SEAFOAM_CFLAGS           appended to the compiler's flags
SEAFOAM_MODEL_LIBRARY    the memory-model checker that a model build links against
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORE = Path("seafoam", "_core")
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function",
            "-Wno-missing-field-initializers", "-Wno-cast-function-type"]
MODES = {
    "release": ["-O3", "-fno-plt", "-g0"],
    "debug": ["-O0", "-g3"],
    "asan": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined",
             "-fno-omit-frame-pointer"],
    "tsan": ["-O1", "-g", "-fsanitize=thread", "-DSEAFOAM_TSAN"],
    "coverage": ["-O0", "-g", "-DCYTHON_TRACE_NOGIL=1", "-DCYTHON_USE_SYS_MONITORING=0"],
    "model": ["-O1", "-g", "-DSEAFOAM_MODEL"],
    "lint": ["-O3", "-fno-plt", "-g0"],
}
mode = os.environ.get("SEAFOAM_BUILD", "release")
if mode not in MODES:
    sys.exit(f"setup.py: SEAFOAM_BUILD={mode!r} is none of {', '.join(MODES)}")


class BuildCore(build_ext):
    """Cython's work is done here, so that only a build pays for it, not each setuptools call."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        from Cython.Build import cythonize

        compiled = cythonize(
            self.extensions, build_dir=f"build/cython-{mode}", nthreads=self.parallel,
            force=self.force,
            compiler_directives={"language_level": 3, "binding": True, "embedsignature": False,
                                 "freethreading_compatible": False,
                                 "linetrace": mode == "coverage"},
        )
        sources = {extension.name: extension.sources for extension in compiled}
        for extension in self.extensions:
            extension.sources = sources[extension.name]
        super().build_extensions()


only = {name for name in os.environ.get("SEAFOAM_ONLY", "").split(",") if name}
sources = [path for path in sorted(CORE.glob("*.pyx")) if not only or path.stem in only]
sources += [Path(name) for name in os.environ.get("SEAFOAM_EXTRA", "").split()]
model_library = os.environ.get("SEAFOAM_MODEL_LIBRARY")
setup(
    cmdclass={"build_ext": BuildCore},
    ext_modules=[
        Extension(
            f"seafoam._core.{path.stem}", [str(path)], include_dirs=[str(CORE)],
            depends=[str(header) for header in sorted(CORE.glob("*.h"))],
            extra_compile_args=["-std=c11", *WARNINGS, *MODES[mode],
                                *os.environ.get("SEAFOAM_CFLAGS", "").split()],
            extra_link_args=[*(flag for flag in MODES[mode] if flag.startswith("-fsanitize=")),
                             *([model_library] if model_library else [])],
        )
        for path in sources
    ],
    options={"build": {"build_base": f"build/{mode}"}},
)
