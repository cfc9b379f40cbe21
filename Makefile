# Every target sets up for itself what it needs; on a fresh machine `make run` and `make test`
# are the only two commands to know. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := build/setup-done
SOURCES := licensing wire runtime certificates activation agent server cli testing tests
PROTOS := $(shell find proto -name '*.proto')
# Options for pytest, for example: make test PYTEST='-k R18'
PYTEST ?=

# Python keeps what it compiled, out of sight: without that each program and each worker of the
# tests compiles every module anew, which is a third of the unit tests' time.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX := $(CURDIR)/build/bytecode

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The build of the package compiles the .proto files too, so both start it anew.
$(SETUP): pyproject.toml constraints.txt proto/build_hook.py $(PROTOS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "setting up $(VENV) ..." >&2
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt \
		--editable '.[testing]' --group dev
	@mkdir -p build/googleapis/google/api
	@cp "$$($(BIN)/python -c 'import google.api.field_behavior_pb2 as m; print(m.__file__)' \
		| sed 's/_pb2.py$$/.proto/')" build/googleapis/google/api/
	@touch $@

.PHONY: setup
setup: $(SETUP) ## Make the virtual environment and compile the contract

.PHONY: run
run: $(SETUP) ## Show the main job on a small fleet; ONCE=1 ends after it, OUTPUT=json for programs
	@$(BIN)/python -m sparekey.testing.story $(if $(ONCE),--once) $(if $(OUTPUT),--output $(OUTPUT))

.PHONY: test
test: $(SETUP) ## Run all tests
	@$(BIN)/pytest tests/unit -n 2 $(PYTEST)
	@$(BIN)/pytest tests/integration -n 2 --dist loadfile $(PYTEST)

.PHONY: unit
unit: $(SETUP) ## Run the unit tests only
	@$(BIN)/pytest tests/unit -n 2 $(PYTEST)

.PHONY: bench
bench: $(SETUP) ## Measure calls and pushes beside bare gRPC; writes build/bench.json
	@PYTHONPATH=tests GRPC_VERBOSITY=NONE $(BIN)/python -m bench

.PHONY: fuzz
fuzz: $(SETUP) ## Give every RPC and file hostile input; INPUTS=5000 of each kind, SEED=n repeats, ONLY=NAME
	@PYTHONPATH=tests GRPC_VERBOSITY=NONE $(BIN)/python -m fuzz "$(or $(INPUTS),5000)" "$(SEED)" "$(ONLY)"

.PHONY: flood
flood: $(SETUP) ## Measure other clients' latency while hostile ones flood the server
	@PYTHONPATH=tests GRPC_VERBOSITY=NONE $(BIN)/python -m flood

.PHONY: audit
audit: $(SETUP) ## Look for weaknesses in our own code and for known ones in packages
	@$(BIN)/bandit --quiet --recursive --configfile pyproject.toml $(filter-out tests,$(SOURCES))
	@PYTHONPATH=tests $(BIN)/python -m audit

.PHONY: bench-reports
bench-reports: $(SETUP) ## Measure forecast and plan for 10,000 and 100,000 SVMs
	@PYTHONPATH=tests GRPC_VERBOSITY=NONE $(BIN)/python -m bench.reports
.PHONY: faults
faults: $(SETUP) ## Kill, cut and starve server and agents; writes build/faults.json; SEED=n replays, BROKEN=name breaks the build
	@PYTHONPATH=tests GRPC_VERBOSITY=NONE $(BIN)/python -m faults $(if $(SEED),--seed $(SEED)) \
		$(if $(RUNS),--runs $(RUNS)) $(if $(SVMS),--svms $(SVMS)) $(if $(SPAN),--seconds $(SPAN)) \
		$(if $(HOSTS),--hosts $(HOSTS)) $(if $(AGENTS),--agents $(AGENTS)) \
		$(if $(BROKEN),--broken $(BROKEN))

.PHONY: proto
proto: ## Compile the .proto files after a change
	@rm -f $(SETUP)
	@$(MAKE) --no-print-directory $(SETUP)

.PHONY: lint
lint: $(SETUP) ## Check style, the house's floors and the contract
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check --quiet
	@$(BIN)/lint-imports --cache-dir build/import-linter
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code proto >/dev/null

# Clients live longer than a release: against which commit the contract must stay compatible.
BEFORE ?= HEAD

.PHONY: breaking
breaking: $(SETUP) ## Check that the contract is compatible with BEFORE=REVISION
	@rm -rf build/before && mkdir -p build/before/build
	@git archive $(BEFORE) proto buf.yaml | tar -x -C build/before
	@cp -r build/googleapis build/before/build/
	@$(BIN)/buf breaking --against build/before

.PHONY: types
types: $(SETUP) ## Check types
	@$(BIN)/mypy

.PHONY: format
format: $(SETUP) ## Format code and contract
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/ruff format --quiet
	@$(BIN)/buf format --write proto

.PHONY: check
check: lint breaking types audit test ## Everything that must hold before a commit

.PHONY: libvirt
libvirt: $(SETUP) ## Install the libvirt binding, where the system's libvirt can be had
	@$(BIN)/python -c 'import libvirt' 2>/dev/null || { \
		command -v apt-get >/dev/null && apt-get update -qq && \
		apt-get install -y -qq libvirt-dev libvirt0 pkg-config gcc >/dev/null && \
		$(BIN)/uv pip install --quiet --python $(BIN)/python libvirt-python; }

.PHONY: clean
clean: ## Remove what was built
	@rm -rf build dist $(VENV)
	@find proto -name '*_pb2*.py*' -delete
