# gridwatch: `make demo` runs it, `make test` tests it, `make help` lists the rest.
# ARGS is handed on: make demo ARGS="--seconds 120 --store minio", make test ARGS="tests/unit -x".

SHELL := /bin/sh
.DEFAULT_GOAL := help
ARGS ?=
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help install demo test test-all faults check format env java clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STAMP) ## create .venv and install gridwatch with its development tools into it

demo: java $(STAMP) ## run the main job on this machine with a real Kafka; ARGS="--seconds 60 --store minio"
	@$(BIN)/gridwatch demo $(ARGS)

test: java $(STAMP) ## run the tests, but for the slow ones and the fault matrix; ARGS="tests/unit"
	@$(BIN)/python -m pytest $(ARGS)

test-all: java $(STAMP) ## run the slow tests too; ARGS="tests/integration"
	@$(BIN)/python -m pytest -m 'not faults' $(ARGS)

faults: java $(STAMP) ## run the short form of the fault matrix (docs/faults.md); ARGS="-k row-2"
	@$(BIN)/python -m pytest -m faults tests/faults $(ARGS)

check: $(STAMP) ## lint, format, types and generated docs: what CI runs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pipelines.cli.docs --check

format: $(STAMP) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

env: ## write .env with random secrets for docker compose
	@python=$$(PYTHON="$(PYTHON)" sh scripts/find_python.sh) && "$$python" scripts/make_env.py

clean: ## remove .venv, caches of tools and the runs; the downloaded parts in .cache stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache runs spark-warehouse metastore_db derby.log

java:
	@python=$$(PYTHON="$(PYTHON)" sh scripts/find_python.sh) && "$$python" -m pipelines.local.java

# Made again when what is to be installed has changed.
$(STAMP): pyproject.toml conf/constraints.txt scripts/find_python.sh
	@python=$$(PYTHON="$(PYTHON)" sh scripts/find_python.sh) && sh scripts/make_venv.sh "$$python" $(VENV)
	$(BIN)/python -m pip install --quiet -c conf/constraints.txt -e '.[dev]'
	@touch $@
