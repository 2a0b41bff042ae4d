# `make run` starts the demo, `make test` runs all tests, and `make check` runs the quick part of them. Each target first
# installs what it needs.
.PHONY: run test check lint docs bench soak asgi clean

# Where it is set, each of the thousand processes of the tests would compile the package anew, which doubles their start.
unexport PYTHONDONTWRITEBYTECODE

# `make check` takes less than a minute on two cores. It runs the linters and the tests that need only Python, no Node,
# browser, proxy or other Debian package. A slow or long test in these folders is marked `slow` and left to `make test`.
QUICK = tests/core tests/store tests/docs/test_structure.py tests/server/test_server.py tests/server/test_fanout.py

run: .ready/run
	.venv/bin/statestream demo

test: .ready/test
	.venv/bin/pytest -m "not soak" -n 4 --dist worksteal

check: .ready/check
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pytest -m "not soak and not slow and not long" -n 2 --dist worksteal -q $(QUICK)

lint: .ready/test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

docs: .ready/docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

bench: .ready/bench
	.venv/bin/python -m tests.benchmarks

soak: .ready/soak
	.venv/bin/pytest -m soak --timeout 3600 -s
	TIMES=20 .venv/bin/pytest -m "(hypothesis or chance) and not soak" --timeout 3600

asgi: .ready/test
	SERVED_BY=uvicorn .venv/bin/pytest -m "not soak" -n 4 --dist worksteal tests/server tests/chat tests/auth
	SERVED_BY=hypercorn .venv/bin/pytest -m "not soak" -n 4 --dist worksteal tests/server tests/chat tests/auth

clean:
	rm -rf .venv .ready site tests/node/node_modules tests/node/*/node_modules tests/benchmarks/peers/node_modules

.ready/run: pyproject.toml .ci/setup
	.ci/setup run

.ready/test: pyproject.toml .ci/setup tests/node/package.json $(wildcard tests/node/*/package.json)
	.ci/setup test

.ready/soak: pyproject.toml .ci/setup tests/node/package.json $(wildcard tests/node/*/package.json)
	.ci/setup soak

.ready/check: pyproject.toml .ci/setup
	.ci/setup check

.ready/docs: pyproject.toml .ci/setup
	.ci/setup docs

.ready/bench: pyproject.toml .ci/setup tests/node/package.json tests/benchmarks/peers/package.json
	.ci/setup bench
