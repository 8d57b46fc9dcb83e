#!/bin/sh
# Writes the pinned versions: dev.txt decides, and the others are parts of it; peers.txt is for another environment.
# They hold for every Python from 3.11 on.
set -eu
cd "$(dirname "$0")/.."
pin() {
    UV_CUSTOM_COMPILE_COMMAND="make lock" uv pip compile --quiet --universal --python-version 3.11 \
        --no-annotate --no-emit-index-url "$@"
}
pin pyproject.toml --group dev --group build --upgrade --output-file requirements/dev.txt
pin pyproject.toml --group test --constraint requirements/dev.txt --output-file requirements/test.txt
pin pyproject.toml --constraint requirements/dev.txt --output-file requirements/runtime.txt
pin --group build --constraint requirements/dev.txt --output-file requirements/build.txt
pin requirements/peers.in --upgrade --output-file requirements/peers.txt
