# Everything runs in .venv, which the first command makes. Python 3.10 to 3.13 is all it needs.
PYTHON ?= python3
# The CPU build of torch, small and the same everywhere; what it needs comes with the next step.
TORCH ?= torch==2.13.0
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := .venv/bin

.PHONY: demo slurm test test-all test-gpu fuzz reliability soak docs check audit format clean

demo: .venv/ready  ## A study of handwritten digits: 24 trials, then a test report
	rm -rf examples/digits/studies
	cd examples/digits && ../../$(BIN)/itwinai exec-pipeline --config-name study

slurm: .venv/ready  ## A Slurm of two nodes on this machine, to try things out, until Ctrl-C
	$(BIN)/python -m tests.slurm.testbed

# In the order of the folders: a long file of few tests does not begin last.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: .venv/ready  ## The tests
	$(PYTEST)

test-all: .venv/ready  ## The tests, and the exhaustive ones, which take as long again
	$(PYTEST) -m ''

test-gpu: .venv/ready  ## What is different on a machine with one GPU
	CUDA_VISIBLE_DEVICES=$${CUDA_VISIBLE_DEVICES:-0} $(PYTEST) tests/torch/test_gpu.py

SEED ?= $(shell date +%s)

fuzz: .venv/ready  ## A quarter of an hour of odd input, another each time; the same again with SEED=
	@echo 'fuzzing with SEED=$(SEED)'
	$(PYTEST) tests/fuzz --hypothesis-profile=long --hypothesis-seed=$(SEED)

reliability: .venv/ready  ## Seconds to recover from faults, measured anew, and the tables of docs/reliability.md
	FAULTS_MEASURE=1 $(BIN)/python -m pytest tests/faults/test_killed_driver.py tests/faults/test_ends_of_drivers.py
	$(BIN)/python tests/faults/table.py

SOAK_MINUTES ?= 30
soak: .venv/ready  ## Faults at random, for SOAK_MINUTES, on a study that must lose nothing; SOAK_SEED repeats them
	$(BIN)/python tests/faults/soak.py --minutes $(SOAK_MINUTES) $(if $(SOAK_SEED),--seed $(SOAK_SEED))

docs: .venv/ready  ## The documentation as a site: open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: .venv/ready  ## Lint, format, types, layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: .venv/ready  ## Known vulnerabilities of what is installed, if an index of them answers
	$(BIN)/python .ci/audit.py

format: .venv/ready  ## Mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv site

.venv/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info[:2] <= (3, 13) else \
	  "itwinai needs Python 3.10 to 3.13; say which: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --retries 1 --no-deps --extra-index-url $(TORCH_INDEX) '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	$(BIN)/python -m pip install --quiet ninja setuptools wheel
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --no-build-isolation 'deepspeed>=0.19.8,<1'
	touch $@
