#!/usr/bin/env bash
# Makes what the Makefile's verbs need: set_up.sh VENV python | install EXTRA | build
#
# Each step leaves a stamp in VENV, which the Makefile compares with what the step depends on.
# What the machine lacks is one sentence with the line that installs it.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1
step=$2

stop() {
    printf 'seafoam: %s\n' "$*" >&2
    exit 1
}

say() {
    printf 'seafoam: %s\n' "$*" >&2
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null
}

has_venv() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

header_of() {
    "$1" -c 'import sysconfig; print(sysconfig.get_path("include") + "/Python.h")'
}

compiler_of() {
    "$1" -c 'import os, sysconfig
print((os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0])'
}

check_compiler() {
    local compiler header
    compiler=$(compiler_of "$1")
    command -v "$compiler" >/dev/null 2>&1 ||
        stop "there is no C compiler ($compiler);" \
            "install one with: apt-get install build-essential"
    header=$(header_of "$1")
    [ -e "$header" ] || stop "Python's headers are missing ($header);" \
        "install them with: apt-get install python3-dev"
}

find_python() {
    local candidate
    new_enough=
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        is_new_enough "$candidate" || continue
        new_enough=$candidate
        if has_venv "$candidate" && [ -e "$(header_of "$candidate")" ]; then
            python=$candidate
            return
        fi
    done
    [ -n "$new_enough" ] ||
        stop "Python 3.10 or newer is needed, and there is none;" \
            "install it with: apt-get install python3 python3-venv python3-dev"
    has_venv "$new_enough" ||
        stop "$new_enough has no venv module; install it with: apt-get install python3-venv"
    python=$new_enough
}

case $step in
python)
    find_python
    check_compiler "$python"
    say "creating $venv with $("$python" --version)"
    "$python" -m venv --clear "$venv"
    # What pyproject.toml wants of a build: installed here once, for all builds.
    read -ra wanted <<<"$(sed -n 's/^requires = \[\(.*\)\]$/\1/p' pyproject.toml | tr -d '",')"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check -U pip "${wanted[@]}" ||
        stop "pip could not install what a build needs (its reason is above)"
    touch "$venv/.python"
    ;;
install)
    extra=$3
    say "installing what '$extra' needs"
    # The modules are built in place by the next step; the installation itself builds none.
    PYTHONWARNINGS=ignore SEAFOAM_ONLY=none "$venv/bin/python" -m pip install -q \
        --disable-pip-version-check --no-build-isolation -e ".[$extra]" ||
        stop "pip could not install what '$extra' needs (its reason is above)"
    touch "$venv/.have-$extra"
    ;;
build)
    check_compiler "$venv/bin/python"
    say "building the compiled modules (a minute or two the first time)"
    mkdir -p build
    "$venv/bin/python" setup.py build_ext --inplace >build/build.log 2>&1 || {
        grep -E -m 20 '\.p(yx|xd):[0-9]|error:' build/build.log >&2 ||
            tail -n 20 build/build.log >&2
        stop "the build failed; all it said is in build/build.log"
    }
    touch "$venv/.built"
    ;;
*)
    stop "set_up.sh knows no step '$step'"
    ;;
esac
