# RadScribe: `make demo` shows it working, `make test` checks it; each installs what it needs first.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
export HF_HUB_OFFLINE ?= 1

.PHONY: help setup demo test lint docs clean
help:
	@echo "make setup  install into .venv"
	@echo "make demo   prepare the phantom data, train, score, and write demo/index.html"
	@echo "make test   lint, types and tests"
	@echo "make lint   ruff and mypy"
	@echo "make docs   build the documentation site into site/"

setup: .venv/.installed
.venv/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -e '.[dev]'
	touch $@
