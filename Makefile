# make demo    environment + the main job on rendered scenes, about five minutes
# make test    environment + tests
# make check   environment + ruff, codespell and mypy
# make bench   environment + the benchmarks that take minutes, written to benchmarks/results/

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test check bench clean

demo: $(VENV)/ready
	$(BIN)/sightline demo demo

# Waiting threads that spin slow small operations down a hundredfold where other work shares the cores, as it often does
# with tests; on cores of one's own they make a training step up to three times as fast, so the demo leaves them.
# Two processes with one thread each finish sooner than one process with two threads: most tensors in tests are tiny.
test: $(VENV)/ready
	OMP_WAIT_POLICY=$${OMP_WAIT_POLICY:-PASSIVE} $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

check: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

bench: $(VENV)/ready
	THP_MEM_ALLOC_ENABLE=1 $(BIN)/python benchmarks/ops.py
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/transforms.py
	$(BIN)/python benchmarks/scenes.py

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, but $(PYTHON) is {sys.version.split()[0]}; run make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,fast,classical,backbones,explain,export,openvino,mesh,video,parquet,pandas,serve,batch]'
	touch $@

clean:
	rm -rf $(VENV) build dist
