# The project's verbs; `make help` lists them. Everything they need is set up on the first call and
# kept in .venv/, with a stamp for each step, so that later calls start at once.

VENV := .venv
PY := $(VENV)/bin/python
SOURCES := setup.py $(wildcard seafoam/_core/*.pyx seafoam/_core/*.pxd seafoam/_core/*.h)
# Passed on to pytest: make test ARGS="-k json -x"
ARGS :=

.DEFAULT_GOAL := help
.PHONY: help run cluster test bench soak model sanitize strength simulate crash lint build package clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r verb text; do \
		printf '  make %-10s %s\n' "$$verb" "$$text"; done

run: $(VENV)/.have-documents $(VENV)/.built  ## start a node on port 3000 with some documents in it
	@$(PY) scripts/run.py

cluster: $(VENV)/.have-documents $(VENV)/.built  ## start three nodes that keep each other's documents
	@$(PY) scripts/cluster.py

test: $(VENV)/.have-test $(VENV)/.built  ## the test suite (ARGS="..." goes to pytest)
	@$(PY) -m pytest $(ARGS)

soak: $(VENV)/.have-test $(VENV)/.built  ## the test suite in its long form, and simulated faults in pairs
	@SEAFOAM_SOAK=1 $(PY) -m pytest $(ARGS)
	@$(PY) -m tests.sim --pairs

model: $(VENV)/.have-test $(VENV)/.built  ## the map under every order of accesses that C11 allows
	@$(PY) -m tests.model $(ARGS)

sanitize: $(VENV)/.have-test $(VENV)/.built  ## the compiled modules under ASan+UBSan, then TSan
	@$(PY) -m tests.sanitizers asan
	@$(PY) -m tests.sanitizers tsan

strength: $(VENV)/.have-test $(VENV)/.built  ## how many planted bugs are caught, and by what
	@$(PY) -m tests.strength $(ARGS)

simulate: $(VENV)/.have-test $(VENV)/.built  ## whole clusters in one process, under every fault
	@$(PY) -m tests.sim $(ARGS)

crash: $(VENV)/.have-test $(VENV)/.built  ## power cuts at every call of the disk
	@$(PY) -m tests.crash $(ARGS)

bench: $(VENV)/.have-bench $(VENV)/.built  ## the benchmarks, beside their references
	@$(PY) -m pytest bench $(ARGS)

lint: $(VENV)/.have-dev $(VENV)/.built  ## style, types, stubs, and the compilers' warnings
	@$(PY) scripts/lint.py

build: $(VENV)/.built  ## compile the modules in place

package: $(VENV)/.have-dev  ## wheel and sdist, in dist/
	@$(PY) -m build

clean:  ## remove what was built and .venv/; keeps .run/ and other data
	@rm -rf build dist $(VENV) *.egg-info seafoam/_core/*.so .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.python: scripts/set_up.sh
	@scripts/set_up.sh $(VENV) python

$(VENV)/.have-%: $(VENV)/.python pyproject.toml
	@scripts/set_up.sh $(VENV) install $*

$(VENV)/.built: $(VENV)/.python $(SOURCES)
	@scripts/set_up.sh $(VENV) build

.PRECIOUS: $(VENV)/.have-%
