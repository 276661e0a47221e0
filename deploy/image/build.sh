#!/bin/bash
# Builds Tango's two images without a container engine: deploy/image/build.sh [OUT], by default build/image; README.md here tells more.
#
# Needs root, buildah, mmdebstrap and Python 3.11. Debian packages come from where this host's apt takes them, wheels from where its pip
# does; neither is written into an image. The images hold what is committed (HEAD), so that their label `revision` is true.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(mkdir -p "${1:-$root/build/image}" && cd "${1:-$root/build/image}" && pwd)
cache=${TANGO_IMAGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tango-image}
suite=${SUITE:-bookworm}            # has Python 3.11, for which requirements.txt is made
python=${PYTHON:-python3.11}
torch_file=${TORCH_FILE:-$here/torch-cpu.txt}
# Packages of the base: Debian's essential ones, Python, what wheels in C++ need, certificates, an init that reaps, time zones.
packages=python3-minimal,libpython3-stdlib,libstdc++6,ca-certificates,tini,tzdata

for tool in buildah mmdebstrap git gzip "$python"; do
    command -v "$tool" > /dev/null || { echo "build.sh: $tool is missing; on Debian: apt-get install buildah mmdebstrap git python3" >&2; exit 2; }
done
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "build.sh: $python is not Python 3.11, for which the base has its wheels; set PYTHON=/path/to/python3.11" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "build.sh: must run as root: base images and chroots are made" >&2; exit 2; }

revision=$(git -C "$root" rev-parse HEAD)
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$root/tango/__init__.py")
tag=$version-$(git -C "$root" rev-parse --short=12 HEAD)
# Times in layers are those of the commit, so that the same commit on the same packages gives the same layers.
export SOURCE_DATE_EPOCH; SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct)
created=$(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
work=$(mktemp -d "${TMPDIR:-/tmp}/tango-image.XXXXXX"); trap 'rm -rf "$work"' EXIT
mkdir -p "$cache"
buildah=(buildah --root "$cache/storage" --runroot "$cache/run" --storage-driver vfs)

echo "== base of Debian packages ($suite)"
# By apt's state as the host has it: another release of a package is another base.
base_key=$( { echo "$suite $packages"; sed -n '/^essential()/,/^}/p' "$here/build.sh"; } | sha256sum | cut -c1-12)
base=localhost/tango-base:$suite-$base_key
essential() {
    # No manuals, locales, package lists, or anything of the host's mirrors and keys; copyrights stay.
    mmdebstrap --quiet --variant=essential --mode=root --include="$packages" \
        --aptopt='Apt::Install-Recommends "false"' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook='rm -rf "$1"/etc/apt/sources.list* "$1"/var/lib/apt "$1"/var/cache/* "$1"/var/log/* "$1"/etc/resolv.conf "$1"/etc/hostname' \
        --customize-hook='ln -sf python3 "$1"/usr/bin/python' \
        "$suite" "$1" $(find /etc/apt -maxdepth 2 \( -name sources.list -o -path '*/sources.list.d/*.sources' -o -path '*/sources.list.d/*.list' \))
}
if [ -n "${FRESH_BASE:-}" ] || ! "${buildah[@]}" inspect --type image "$base" > /dev/null 2>&1; then
    essential "$work/base.tar"
    container=$("${buildah[@]}" from scratch)
    "${buildah[@]}" add --quiet "$container" "$work/base.tar" / > /dev/null
    "${buildah[@]}" commit --quiet --rm --timestamp "$SOURCE_DATE_EPOCH" "$container" "$base" > /dev/null
    rm "$work/base.tar"
fi

echo "== tools and wheels, each held to its hash"
if ! [ "$cache/tools/done" -nt "$here/tools.txt" ]; then
    rm -rf "$cache/tools"; "$python" -m venv "$cache/tools"
    "$cache/tools/bin/pip" install --quiet --require-hashes --requirement "$here/tools.txt"
    touch "$cache/tools/done"
fi
tools=$cache/tools/bin
wheels=$work/wheels; mkdir "$wheels" "$work/source"
git -C "$root" archive "$revision" | tar -x -C "$work/source"
container=$("${buildah[@]}" from "$base")
release=$("${buildah[@]}" run --isolation chroot "$container" -- python3 -c 'import platform; print(platform.python_version())')
"${buildah[@]}" rm "$container" > /dev/null
"$tools/python" "$here/locked.py" "$release" > "$wheels/requirements.txt"
"$tools/python" "$here/locked.py" "$release" httptools > "$wheels/workload-requirements.txt"
cat "$torch_file" >> "$wheels/requirements.txt"
sed -n '/^pip==/,/^ *# via/p' "$here/tools.txt" > "$work/pip.txt"
for file in "$wheels/requirements.txt" "$work/pip.txt"; do
    "$tools/pip" download --quiet --no-deps --only-binary :all: --require-hashes --dest "$wheels" \
        ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} --requirement "$file"
done

build() { # NAME CONTAINERFILE REQUIREMENTS
    echo "== $1:$tag"
    "${buildah[@]}" bud --quiet --isolation chroot --format docker --layers=false --timestamp "$SOURCE_DATE_EPOCH" \
        --build-context wheels="$wheels" --build-arg BASE="$base" --build-arg VERSION="$version" \
        --build-arg REVISION="$revision" --build-arg CREATED="$created" \
        --tag "localhost/$1:$tag" --file "$here/$2" "$work/source" > "$work/$1.log" 2>&1 || { tail -40 "$work/$1.log" >&2; exit 1; }
    # Of each name the last build alone is kept here; what was written to a folder stays there.
    "${buildah[@]}" images --format '{{.Name}}:{{.Tag}}' | grep "^localhost/$1:" | grep -v ":$tag\$" \
        | xargs --no-run-if-empty "${buildah[@]}" rmi > /dev/null || true
    "${buildah[@]}" push --quiet "localhost/$1:$tag" "docker-archive:$work/$1.tar:$1:$tag"
    gzip -6 --no-name < "$work/$1.tar" > "$out/$1-$tag.tar.gz"; rm "$work/$1.tar"
    local container tree; container=$("${buildah[@]}" from "localhost/$1:$tag"); tree=$("${buildah[@]}" mount "$container")
    "$tools/python" "$here/sbom.py" --name "$1" --version "$tag" --tree "$tree" --suite "$suite" \
        --requirements "$wheels/$3" --created "$created" > "$out/$1-$tag.cdx.json"
    "${buildah[@]}" rm "$container" > /dev/null
}
build tango-workload Containerfile.workload workload-requirements.txt
[ -n "${WORKLOAD_ONLY:-}" ] || build tango Containerfile requirements.txt
echo "== $out"
(cd "$out" && sha256sum -- *"$tag"* | tee "SHA256SUMS" && du -h -- *"$tag"*)
