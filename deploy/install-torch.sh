#!/bin/sh
# Install the CPU build of torch at the version that constraints.txt names: a plain `pip install torch` on Linux brings gigabytes of
# CUDA libraries that Tango's one-thread inference never touches. PyTorch's own CPU index is tried first; where it cannot be
# reached, pip's configured sources serve instead.
set -eu
pip=$1
constraints=$2
version=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$constraints")
"$pip" install --quiet --timeout 10 --retries 1 --constraint "$constraints" \
    --index-url https://download.pytorch.org/whl/cpu --extra-index-url https://pypi.org/simple "torch==$version+cpu" 2>/dev/null ||
    "$pip" install --quiet --constraint "$constraints" "torch==$version"
