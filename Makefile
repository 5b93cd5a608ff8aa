# make demo: environment, install, then the whole loop on the packaged data.  make test: install what is missing, run the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PEERS := $(or $(EQUIPOT_PEERS),.peers)
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(wildcard src/equipot/csrc/* src/equipot/csrc/*/*) src/equipot/math/coupling.py

.PHONY: demo test install dev lint peers docs viewer clean
.NOTPARALLEL:

# torch goes in first and pinned: a range would make pip fetch the newest build with gigabytes of GPU packages
$(BIN)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=24"
	$(BIN)/pip install --quiet $$(grep '^torch==' constraints.txt)
	@touch $@

$(BIN)/.installed: $(BIN)/.torch $(SOURCES)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	@touch $@

# not after .installed: each of the two compiles the native code
$(BIN)/.dev: $(BIN)/.torch $(SOURCES)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $(BIN)/.installed $@

install: $(BIN)/.installed

dev: $(BIN)/.dev

demo: $(BIN)/.installed
	$(BIN)/equipot demo

test: $(BIN)/.dev
	$(BIN)/ruff check src tests benchmarks examples
	PATH="$(BIN):$$PATH" $(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

lint: $(BIN)/.dev
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	PATH="$(BIN):$$PATH" $(BIN)/lint-imports

# the programs equipot is compared with, each in an environment of its own: they pin each other out (EQUIPOT_PEERS: their folder)
$(PEERS)/%/.installed: tests/model/peers/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --upgrade "pip>=24"
	$(@D)/bin/pip install --quiet $$(grep '^torch==' $<)
	$(@D)/bin/pip install --quiet --requirement $<
	@touch $@

peers: $(PEERS)/mace/.installed $(PEERS)/nequip/.installed

# the documentation's site, into build/site: opens from disk
docs: $(BIN)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# the 3D viewer that report pages carry, from the npm registry: the recorded version again, or VERSION=…
viewer:
	$(PYTHON) tools/vendor_viewer.py $(VERSION)

clean:
	rm -rf $(VENV) build runs
