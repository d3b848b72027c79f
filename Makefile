# make train | seeds | quick | test | thorough | engines | export | lint | matrix | parity | defects | faults | soak | bench |
# bench-gpu | language-model-scaling | peers | asynchronous | preflight | browser-test | docs | docs-test | clean. Needs only Python 3.11-3.13 and make.
# PYTHON=/path/to/python chooses the interpreter. All paths below are relative, so that a checkout
# whose path contains a space works.

PYTHON ?=
SCALING = recipes.language_model --scaling=nano,tiny,small --train_steps=100 --model_dir=runs/scaling
TRAIN = recipes.image_classification --dataset=digits --distribution_strategy=mirrored --num_replicas=2
# Two files at a time; the tests of a file stay together, because they use the same processes.
PYTEST_FLAGS ?= -q -n 2 --dist loadfile
# <TensorFlow minor>-<Keras minor>; `make matrix MATRIX=2.20-3.14` runs one, `make -k matrix` runs
# all even if one fails.
MATRIX ?= 2.20-3.14 2.20-3.15 2.21-3.14 2.21-3.15
# What is not released yet, which `make matrix` leaves out: make matrix-nightly, matrix-rc.
#     nightly   the newest keras-nightly and the newest released TensorFlow
#     rc        the newest TensorFlow, release candidates too, and a Keras that tfscale allows
UNRELEASED = nightly rc
LANES = $(sort $(MATRIX) $(UNRELEASED))

# make parity SEED=7 CASES=100 STOCK=1, or DISABLE=<row of a defect>, or DISABLE=all. SHARDED cases
# besides have shard=1, 2 or 3; PARALLEL cases are pipelines and tensor parallelism. WORKERS is the size of the cluster, 0 for none; JOBS the child processes at a time; KINDS the models to draw from:
# all, ordinary, new, or names of models with commas.
SEED ?= $(shell date +%Y%m%d)
CASES ?= 40
SHARDED ?= 100
PARALLEL ?= 100
KINDS ?= all
WORKERS ?= 2
JOBS ?= 2
STOCK ?=
DISABLE ?=
PARITY = tests.parity --seed=$(SEED) --cases=$(CASES) --kinds=$(KINDS) \
    --sharded=$(SHARDED) --parallel=$(PARALLEL) --workers=$(WORKERS) --jobs=$(JOBS) \
    $(if $(STOCK),--stock) $(if $(DISABLE),--disable=$(DISABLE))

# make defects ROWS=S4,C13 runs some rows and replaces their lines of the table.
ROWS ?=
DEFECTS = tests.defects --jobs=$(JOBS) $(if $(ROWS),--rows=$(ROWS))

# make faults ONLY=kill,cable runs some cases; make soak MINUTES=5 EVERY=30 SEED=7.
ONLY ?=
MINUTES ?= 30
EVERY ?= 60
ENGINES_TESTS = tests.engines $(if $(ONLY),--only="$(ONLY)")
FAULTS = tests.faults --jobs=$(JOBS) $(if $(ONLY),--only="$(ONLY)")
SOAK = tests.faults.soak --minutes=$(MINUTES) --every=$(EVERY) --seed=$(SEED)

# make bench MODELS="tiny_mlp mlp" BENCH_KINDS=scaling ROUNDS=7, on a machine that does nothing else.
MODELS ?= tiny_mlp mlp
# Besides step: kinds of `tfscale bench`, and input, the benchmark of reading images.
BENCH_KINDS ?= scaling all_reduce startup memory input
ROUNDS ?= 7
# Options of pip for the peers' environment. CPU builds of PyTorch are on its own index (200 MB, not
# 3 GB with CUDA), and pip prefers them. For CUDA: make peers PEERS_PIP=
PEERS_PIP ?= --retries=1 --extra-index-url=https://download.pytorch.org/whl/cpu
PEERS = tfscale/bench/peers/requirements.txt

# What a change usually breaks, in about a minute of two cores. Modules that start few processes or
# none, some examples (one of them on two workers), and one case of the parity sweep.
U = tests/unit
S = $(U)/strategies
T = $(U)/tfscale
X = $(U)/recipes/test_examples.py::test_example_runs_by_its_own_command_and_prints_what_it_promises
QUICK = $(U)/test_house.py $(U)/test_project_files.py $(U)/test_docstring_examples.py \
    $(X:%=%[mirrored]) $(X:%=%[custom_train_step]) $(X:%=%[resume]) $(X:%=%[two_workers]) \
    $(S)/keras_support/test_everyday_keras.py $(S)/keras_support/gradients/test_optimizer_apply.py \
    $(S)/keras_support/patching/test_patch.py $(S)/keras_support/patching/test_fingerprints.py \
    $(S)/cluster/environments \
    $(S)/test_global_batches.py $(S)/test_number_rules.py \
    $(S)/liveness/test_blocking_workers.py $(S)/liveness/test_stalled_workers.py \
    $(T)/schedules/test_schedules.py $(T)/preparation/test_preparation.py \
    $(T)/test_precision_choice.py $(T)/test_wrong_arguments.py \
    $(T)/checkpoints/test_paths.py $(T)/checkpoints/test_lease_protocol.py \
    $(T)/callbacks/test_plateau.py $(T)/callbacks/test_stop_at.py \
    $(T)/data/test_sources.py \
    $(T)/optimizers/test_by_name.py $(T)/optimizers/test_lars.py \
    $(T)/parallel/test_sharded_embedding.py $(T)/files/test_secret_masking.py \
    $(T)/report/test_report_record.py $(T)/report/test_report_page.py \
    $(T)/verify/test_verify_additivity.py $(T)/verify/test_verify_batches.py \
    $(T)/launch/test_hosts.py $(T)/launch/test_ports.py $(T)/launch/test_prefixed_lines.py
QUICK_CASE = mlp optimizer=adam clip=global_clipnorm accumulation=2 on=mirrored3

# make asynchronous PROGRAMS=staleness runs one of them; they take minutes to hours.
PROGRAMS ?= undisturbed killed losses staleness shard_memory
undisturbed = exact_counts undisturbed --runs=20
killed = exact_counts killed
losses = losses recommendation --seeds=5
staleness = staleness --seeds=5
shard_memory = shard_memory --rows=3276800 --width=64

PACKAGES = strategies tfscale recipes
METADATA = setup.cfg pyproject.toml
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
PIP_NO_KERAS = -m pip uninstall --quiet --quiet --yes keras keras-nightly
PRINT_VERSIONS = import os; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'; import keras, tensorflow; \
    print(f'$@: Keras {keras.__version__}, TensorFlow {tensorflow.__version__}', flush=True)

# Each interpreter is tried first: pyenv puts shims on PATH for versions that are not selected, and
# Debian ships python3 without the module that makes environments.
IS_RIGHT_PYTHON = import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
define FIND_PYTHON
	python=; \
	if [ -n "$(PYTHON)" ]; then \
	    if "$(PYTHON)" -c '$(IS_RIGHT_PYTHON)' >/dev/null 2>&1; then python="$(PYTHON)"; \
	    else echo "\`PYTHON\` must be a Python 3.11, 3.12 or 3.13 with venv and ensurepip." \
	        "Received: PYTHON=$(PYTHON)." \
	        "Name another interpreter, or leave PYTHON out to search PATH." >&2; exit 2; fi; \
	else \
	    for candidate in python3.13 python3.12 python3.11 python3; do \
	        if "$$candidate" -c '$(IS_RIGHT_PYTHON)' >/dev/null 2>&1; \
	        then python="$$candidate"; break; fi; \
	    done; \
	    if [ -z "$$python" ]; then \
	        echo "Found no Python 3.11, 3.12 or 3.13 with venv and ensurepip on PATH" \
	            "(tried python3.13, python3.12, python3.11, python3)." \
	            "Install one (Debian, Ubuntu: apt install python3-venv)," \
	            "or name it: make PYTHON=/path/to/python3.13 ..." >&2; exit 2; fi; \
	fi
endef

.DEFAULT_GOAL := help
# Several editable installs of one checkout write the same tfscale.egg-info.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help train seeds language-model-scaling quick test thorough engines export lint matrix parity defects faults soak bench bench-gpu peers asynchronous preflight browser-test docs docs-test clean same-python gpu-driver keras-history newest $(LANES:%=matrix-%)

help:
	@echo "make train   trains the image recipe on the bundled digits, on 2 replicas"
	@echo "make seeds   trains it with each of the seeds 0 to 4; fails if the mean is below 0.98"
	@echo "make quick   runs in about a minute what a change usually breaks"
	@echo "make test    runs the tests"
	@echo "make thorough runs the long tests, which 'make test' leaves out"
	@echo "make engines runs whole jobs of several launchers and schedulers, on this host"
	@echo "make export  runs files of 'tfscale export' in LiteRT, ONNX Runtime and OpenVINO"
	@echo "make lint    ruff check, ruff format --check, mypy --strict"
	@echo "make matrix  runs the tests under each TensorFlow-Keras pair of: $(MATRIX)"
	@echo "make matrix-nightly, matrix-rc  run them under unreleased versions of Keras, of TensorFlow"
	@echo "make keras-history  counts in which Keras releases each symbol in use changed (25 MB)"
	@echo "make parity  compares a random sweep of trainings with stock Keras on one device, some sharded"
	@echo "make defects runs every known defect on stock Keras and on tfscale; writes docs/concepts/defects.md"
	@echo "make faults  kills, stops, disconnects and starves real jobs; writes docs/concepts/faults.md"
	@echo "make soak    half an hour of faults; results must match an undisturbed run"
	@echo "make bench   times a step of fit beside stock Keras; writes tests/benchmarks/history/"
	@echo "make bench-gpu  the same on the GPUs of this machine, in ten minutes; writes runs/bench-gpu/"
	@echo "make language-model-scaling  trains three sizes of the language model, in minutes; a table"
	@echo "make peers   makes .venv-peers with PyTorch, mpi4py and grain, for 'make bench'"
	@echo "make asynchronous  counts steps of asynchronous jobs, kills tasks, compares losses; hours"
	@echo "make preflight  compiles steps for TPUs without a TPU (225 MB of wheels, minutes)"
	@echo "make browser-test  tests report and site in a real Chromium (64 MB, needs npm and node)"
	@echo "make docs    builds the documentation into site/"
	@echo "make docs-test  runs every block of README.md and docs/ from the built wheel"
	@echo "make clean   removes the environments, build output and caches"

train: .venv/.installed-recipes
	@echo "train: python -m $(TRAIN)"
	@.venv/bin/python -m $(TRAIN)

seeds: .venv/.installed-recipes
	@for seed in 0 1 2 3 4; do \
	    command="-m $(TRAIN) --seed=$$seed --model_dir=runs/seeds/$$seed"; \
	    echo "seeds: python $$command"; \
	    .venv/bin/python $$command || exit $$?; \
	done
	@.venv/bin/python -m recipes.mean_accuracy --at_least=0.98 \
	    $(foreach seed,0 1 2 3 4,runs/seeds/$(seed)/summary.json)

language-model-scaling: .venv/.installed-recipes
	@echo "language-model-scaling: python -m $(SCALING)"
	@.venv/bin/python -m $(SCALING)

quick: .venv/.installed-test
	@echo "quick: python -m pytest $(PYTEST_FLAGS) [QUICK of the Makefile]"
	@.venv/bin/python -m pytest $(PYTEST_FLAGS) $(QUICK)
	@echo 'quick: python -m tests.parity.case "$(QUICK_CASE)"'
	@.venv/bin/python -m tests.parity.case "$(QUICK_CASE)"

test: .venv/.installed-test
	@echo "test: python -m pytest $(PYTEST_FLAGS)"
	@.venv/bin/python -m pytest $(PYTEST_FLAGS)

thorough: .venv/.installed-test
	@echo "thorough: python -m pytest $(PYTEST_FLAGS) -m thorough"
	@.venv/bin/python -m pytest $(PYTEST_FLAGS) -m thorough

# make engines ONLY=slurm,ray. Without .venv-engines, the tests that need it are skipped.
engines: .venv/.installed-test
	@$(MAKE) --no-print-directory .venv-engines/.installed || \
	    echo "engines: without .venv-engines" >&2
	@echo "engines: python -m $(ENGINES_TESTS)"
	@.venv/bin/python -m $(ENGINES_TESTS)

# What the tests of engines need besides: an environment of its own, so that .venv stays small.
ENGINES = tests/engines/requirements.txt
.venv-engines/.installed: .venv-engines/.made $(ENGINES) $(METADATA)
	@echo ".venv-engines: installing $(ENGINES)"
	@.venv-engines/bin/python $(PIP_INSTALL) --requirement $(ENGINES) --editable ".[cpu,recipes]"
	@touch "$@"

export: .venv-export/.installed
	@echo "export: python -m pytest -q -p no:xdist -m 'not engines' tests/unit/tfscale/shrink/exporting tests/unit/tfscale/shrink/quantization/test_integer_file.py"
	@.venv-export/bin/python -m pytest -q -p no:xdist -m "not engines" tests/unit/tfscale/shrink/exporting tests/unit/tfscale/shrink/quantization/test_integer_file.py

# Converters and runtimes in an environment of their own, so that .venv stays small.
.venv-export/.installed: .venv-export/.made $(METADATA)
	@echo ".venv-export: installing tfscale[cpu,export,test] (3 GB of disk)"
	@.venv-export/bin/python $(PIP_INSTALL) --editable ".[cpu,export,test]"
	@touch "$@"

lint: .venv/.installed-test
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy --strict $(PACKAGES) tests

matrix: $(MATRIX:%=matrix-%)
	@echo "matrix: passed with $(MATRIX)"

$(LANES:%=matrix-%): matrix-%: .venv-matrix/%/.installed
	@.venv-matrix/$*/bin/python -c "$(PRINT_VERSIONS)"
	@echo "$@: python -m pytest $(PYTEST_FLAGS)"
	@.venv-matrix/$*/bin/python -m pytest $(PYTEST_FLAGS)

keras-history: .venv/.installed-test
	@echo "keras-history: python -m tests.upstream_history"
	@.venv/bin/python -m tests.upstream_history

parity: .venv/.installed-test
	@echo "parity: python -m $(PARITY)"
	@.venv/bin/python -m $(PARITY)

defects: .venv/.installed-test
	@echo "defects: python -m $(DEFECTS)"
	@TF_CPP_MIN_LOG_LEVEL=3 .venv/bin/python -m $(DEFECTS)

faults: .venv/.installed-test
	@echo "faults: python -m $(FAULTS)"
	@TF_CPP_MIN_LOG_LEVEL=3 .venv/bin/python -m $(FAULTS)

soak: .venv/.installed-test
	@echo "soak: python -m $(SOAK)"
	@TF_CPP_MIN_LOG_LEVEL=3 .venv/bin/python -m $(SOAK)

# Without its peers, a benchmark says which rows are missing and why.
bench: .venv/.installed-test
	@$(MAKE) --no-print-directory peers || echo "bench: without the peers" >&2
	@set -e; for run in $(MODELS:%=step,--model=%) $(BENCH_KINDS); do \
	    command="-m tests.benchmarks $$(echo $$run | tr , ' ') --rounds=$(ROUNDS) --keep"; \
	    echo "bench: python $$command"; \
	    .venv/bin/python $$command; \
	done

# Not run on a GPU yet. The peers are compared if .venv-peers has a PyTorch with CUDA.
bench-gpu: gpu-driver .venv-gpu/.installed
	@echo "bench-gpu: python -m tests.benchmarks.gpu"
	@TF_CPP_MIN_LOG_LEVEL=3 .venv-gpu/bin/python -m tests.benchmarks.gpu

# Before 3 GB are installed.
gpu-driver:
	@nvidia-smi --list-gpus >/dev/null 2>&1 || { \
	    echo "\`make bench-gpu\` must run on a machine with an NVIDIA GPU." \
	        "Received: no GPU from nvidia-smi. Run 'make bench' for CPUs." >&2; exit 2; }

.venv-gpu/.installed: .venv-gpu/.made $(METADATA)
	@echo ".venv-gpu: installing tfscale[gpu,recipes,test] (5 GB of disk)"
	@.venv-gpu/bin/python $(PIP_INSTALL) --editable ".[gpu,recipes,test]"
	@touch "$@"

peers: .venv-peers/.installed

.venv-peers/.installed: .venv-peers/.made $(PEERS)
	@echo ".venv-peers: installing $(PEERS) (1 GB of disk)"
	@.venv-peers/bin/python $(PIP_INSTALL) $(PEERS_PIP) --requirement $(PEERS)
	@touch "$@"

asynchronous: .venv/.installed-test
	@$(foreach program,$(PROGRAMS), \
	    echo "asynchronous: python -m tests.asynchronous.$($(program))"; \
	    TF_CPP_MIN_LOG_LEVEL=3 .venv/bin/python -m tests.asynchronous.$($(program)) || exit $$?;)

# The environment for compiling is in the user's cache; `tfscale preflight --aot` uses it too.
preflight: .venv/.installed-test
	@.venv/bin/python -m tfscale.preflight.ahead_of_time.environment
	@TFSCALE_PREFLIGHT=1 .venv/bin/python -m pytest -q -p no:xdist -o faulthandler_timeout=0 \
	    tests/unit/tfscale/preflight/ahead_of_time/test_aot_chips.py

browser-test: .venv/.installed-browser
	@.venv/bin/python -m pytest -q -p no:xdist \
	    tests/unit/tfscale/report/test_report_browser.py tests/unit/tfscale/report/test_tips_browser.py \
	    tests/unit/tfscale/report/test_runs_browser.py tests/unit/tfscale/explain/test_explain_browser.py \
	    tests/unit/tfscale/bench/test_bench_browser.py tests/docs/test_site_browser.py

.venv/.installed-browser: .venv/.installed-docs tests/unit/tfscale/report/report_browser.py
	@echo ".venv: installing Chromium for the tests"
	@.venv/bin/python tests/unit/tfscale/report/report_browser.py .venv/browser
	@touch "$@"

docs: .venv/.installed-docs
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict
	@.venv/bin/python -m tests.docs.site site

docs-test: .venv/.installed-test
	@echo "docs-test: python -m tests.docs"
	@.venv/bin/python -m tests.docs

clean:
	rm -rf .venv .venv-engines .venv-export .venv-gpu .venv-matrix .venv-peers build dist site tfscale.egg-info .mypy_cache .pytest_cache .ruff_cache
	find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment keeps its interpreter: to ask for another one is an error.
same-python:
	@if [ -n "$(PYTHON)" ] && [ -e .venv/.made ]; then \
	    $(FIND_PYTHON); \
	    print='import sys; print("Python %d.%d.%d in %s" % (*sys.version_info[:3], sys.base_prefix))'; \
	    asked="$$("$$python" -c "$$print")"; made="$$(.venv/bin/python -c "$$print")"; \
	    if [ "$$asked" != "$$made" ]; then \
	        echo "\`PYTHON\` must be the interpreter that .venv was made with ($$made)." \
	            "Received: PYTHON=$(PYTHON) ($$asked). Run 'make clean' first." >&2; exit 2; fi; \
	fi

%/.made:
	@$(FIND_PYTHON); \
	echo "$*: making the environment with $$("$$python" --version) ($$python)"; \
	"$$python" -m venv --clear "$*"
	@touch "$@"

# The prerequisite only: the recipe is the one of %/.made above.
.venv/.made: | same-python

.venv/.installed-recipes: .venv/.made $(METADATA) | same-python
	@echo ".venv: installing tfscale[cpu,recipes] (2 GB of disk the first time)"
	@.venv/bin/python $(PIP_INSTALL) --editable ".[cpu,recipes]"
	@touch "$@"

.venv/.installed-test: .venv/.made $(METADATA) | same-python
	@echo ".venv: installing tfscale[cpu,recipes,test] (2 GB of disk the first time)"
	@.venv/bin/python $(PIP_INSTALL) --editable ".[cpu,recipes,test]"
	@touch .venv/.installed-recipes "$@"

.venv/.installed-docs: .venv/.installed-test
	@echo ".venv: installing tfscale[docs]"
	@.venv/bin/python $(PIP_INSTALL) --editable ".[cpu,recipes,test,docs]"
	@touch "$@"

.PRECIOUS: %/.made
.venv-matrix/%/.installed: .venv-matrix/%/.made $(METADATA)
	@tensorflow="$(word 1,$(subst -, ,$*))"; keras="$(word 2,$(subst -, ,$*))"; \
	echo ".venv-matrix/$*: installing tfscale with TensorFlow $$tensorflow and Keras $$keras"; \
	printf '%s\n' "tensorflow-cpu==$$tensorflow.*" "tensorflow==$$tensorflow.*" "keras==$$keras.*" \
	    > .venv-matrix/$*/constraints.txt; \
	.venv-matrix/$*/bin/python $(PIP_INSTALL) --constraint .venv-matrix/$*/constraints.txt \
	    --editable ".[cpu,recipes,test]"
	@touch "$@"

# Installed again for each run, because the newest version changes daily. keras-nightly, which
# TensorFlow's release candidates require, fills the same `keras/` folder as keras, which tfscale
# requires: so both go before one of them is installed.
$(UNRELEASED:%=.venv-matrix/%/.installed): .venv-matrix/%/.installed: .venv-matrix/%/.made newest
	@echo ".venv-matrix/$*: installing tfscale, then the newest versions"
	@set -e; python=.venv-matrix/$*/bin/python; \
	$$python $(PIP_NO_KERAS); $$python $(PIP_INSTALL) --upgrade --editable ".[cpu,recipes,test]"; \
	tensorflow="$$($$python -m pip list --format=freeze | grep -oE '^tensorflow([_-]cpu)?==' | tr -d =)"; \
	if [ "$*" = rc ]; then \
	    $$python $(PIP_INSTALL) --upgrade "$$tensorflow>=2.dev0"; \
	    $$python $(PIP_NO_KERAS); $$python $(PIP_INSTALL) --editable .; \
	else \
	    $$python $(PIP_INSTALL) --upgrade "$$tensorflow"; \
	    $$python $(PIP_NO_KERAS); $$python $(PIP_INSTALL) --no-deps --pre keras-nightly; \
	fi
	@touch "$@"
