# RadScribe: `make demo` shows it working, `make test` checks it; each installs what it needs first.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
export HF_HUB_OFFLINE ?= 1

.PHONY: help setup demo test quick lint docs clean
help:
	@echo "make setup  install into .venv"
	@echo "make demo   prepare the phantom data, train, score, and write demo/index.html"
	@echo "make test   lint, types and tests"
	@echo "make quick  the tests that take seconds"
	@echo "make lint   ruff and mypy"
	@echo "make docs   build the documentation site into site/"

setup: .venv/.installed
.venv/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/pip install --quiet uv
	$(BIN)/uv pip install --python $(BIN)/python --compile-bytecode -e '.[dev]'
	touch $@

# A demo that was interrupted goes on where it was; `make clean` forgets it.
demo: setup
	$(BIN)/radscribe prepare phantom --studies 2500 --out demo/store
	if [ -f demo/run/summary.txt ]; then cat demo/run/summary.txt; \
	elif [ -f demo/run/checkpoints/last.ckpt ]; then \
	  $(BIN)/radscribe train r2gen-cmn/phantom --out demo/run --resume; \
	else rm -rf demo/run && \
	  $(BIN)/radscribe train r2gen-cmn/phantom --store demo/store --out demo/run; fi
	$(BIN)/radscribe page demo/run --out demo/index.html

test: lint
	$(BIN)/pytest -n $(WORKERS) --dist worksteal

quick: setup
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -m "not slow"

lint: setup
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy

docs: setup
	$(BIN)/mkdocs build --strict --site-dir site

clean:
	rm -rf demo site .venv
