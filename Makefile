# Every command works in a fresh clone with nothing but Python 3.11 or newer; the first one makes .venv.
#
#   make serve   [ARGS='--port 9000']        run the server
#   make test    [ARGS='-k resume']          run the tests
#
# Another Python: make PYTHON=/usr/bin/python3.13 test

.DEFAULT_GOAL := help
.PHONY: help serve test test-long chaos stores bench bench-store localstack versitygw azurite fake-gcs-server lint types layers docs clean

IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c '$(IS_NEW_ENOUGH)' 2>/dev/null && { echo "$$python"; break; }; done)

BIN := .venv/bin
INSTALLED := .venv/installed

help:
	@echo 'make serve | test | test-long | chaos | stores | bench | lint | types | layers | docs | clean'
	@echo '(ARGS=... goes to serve, tests and benchmarks)'
	@echo 'make localstack | versitygw | azurite | fake-gcs-server   (servers of objects, for more of test-long)'
	@echo 'make bench-store   (what an object costs in the S3 store; ARGS=--quick)'

serve: $(INSTALLED)
	@$(BIN)/rindle serve $(ARGS)

test: $(INSTALLED)
	$(BIN)/python -m pytest -n auto $(ARGS)

test-long: $(INSTALLED)
	$(BIN)/python -m pytest -n auto -m long $(ARGS)

chaos: $(INSTALLED)
	$(BIN)/python -m pytest -m chaos $(ARGS)

# Side by side with tusd, which needs Go, and @tus/server, which needs npm. Less of it: make bench ARGS=--quick
bench: $(INSTALLED)
	@$(MAKE) --no-print-directory .bench/tusd || echo 'tusd could not be built'
	@$(MAKE) --no-print-directory .bench/node/installed || echo '@tus/server could not be installed'
	@$(BIN)/python -m benchmarks $(ARGS)

.bench/tusd:
	mkdir -p .bench/go
	printf 'module bench\n\nrequire github.com/tus/tusd/v2 v2.10.0\n' >.bench/go/go.mod
	cd .bench/go && go build -mod=mod -o ../tusd github.com/tus/tusd/v2/cmd/tusd

.bench/node/installed: $(addprefix benchmarks/node/,package.json package-lock.json server.mjs)
	mkdir -p .bench/node
	cp $^ .bench/node
	cd .bench/node && npm ci --silent --no-audit --no-fund
	@touch $@

# The contract of all stores on whatever is installed; what it shows becomes the table in the documents.
stores: $(INSTALLED)
	$(BIN)/python -m pytest -n auto -m 'long or not long' --store-matrix=docs/reference/stores.md $(ARGS) tests/contracts

# rindle's S3 store beside the SDK it stands on, obstore and s3fs. Less of it: make bench-store ARGS=--quick
bench-store: .bench/store/installed
	@$(MAKE) --no-print-directory .versitygw/versitygw || echo 'versitygw could not be built'
	@.bench/store/bin/python -m benchmarks.objectstore $(ARGS)

.bench/store/installed: pyproject.toml
	"$(PYTHON)" -m venv .bench/store
	.bench/store/bin/pip install --quiet --disable-pip-version-check --editable '.[s3]' 'obstore>=0.12' s3fs
	@touch $@

localstack: .localstack/installed

# An S3 server for test-long. In an environment of its own, because it wants older versions of what others share with it.
.localstack/installed:
	"$(PYTHON)" -m venv .localstack
	.localstack/bin/pip install --quiet --disable-pip-version-check \
		'localstack-core[base-runtime]==4.9.2' 'cbor2<5.8' 'cryptography<47' 'pyopenssl<26' service_identity
	@touch $@

versitygw: .versitygw/versitygw

# Another, which checks signatures. It needs Go.
.versitygw/versitygw:
	GOBIN="$(CURDIR)/.versitygw" go install github.com/versity/versitygw/cmd/versitygw@v1.8.0

azurite: .azurite/installed

# Azure's emulator. It needs Node.js 20 or newer.
.azurite/installed:
	npm install --prefix .azurite --no-save --no-audit --no-fund --ignore-scripts --loglevel error azurite@3.37.0
	@touch $@

fake-gcs-server: .fake-gcs-server/fake-gcs-server

# An emulator of Google Cloud Storage. It needs Go.
.fake-gcs-server/fake-gcs-server:
	GOBIN="$(CURDIR)/.fake-gcs-server" go install github.com/fsouza/fake-gcs-server@v1.56.1

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(INSTALLED)
	$(BIN)/mypy

layers: $(INSTALLED)
	$(BIN)/lint-imports

docs: $(INSTALLED)
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv .bench .localstack .versitygw .azurite .fake-gcs-server build dist tests/clients/node_modules
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find rindle tests alembic -name __pycache__ -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	@test -n "$(PYTHON)" && "$(PYTHON)" -c '$(IS_NEW_ENOUGH)' || { \
		echo 'rindle needs Python 3.11 or newer, and none was found ($(or $(PYTHON),python3): '"$$("$(or $(PYTHON),python3)" --version 2>&1)"').' >&2; \
		echo 'Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)' >&2; \
		exit 1; }
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv .venv || { \
		rm -rf .venv; \
		echo 'No virtual environment could be made. On Debian and Ubuntu: apt install python3-venv' >&2; \
		exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
