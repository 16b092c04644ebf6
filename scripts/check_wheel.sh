#!/usr/bin/env bash
# check_wheel.sh PYTHON: does the main job with the packages a user gets.
#
# PYTHON has the package `build`. Builds the sdist, from it the wheel, looks at what they hold, and
# installs the wheel in an empty environment outside the source tree. There: a node, writes and
# documents through the command line, kill -9, a new start, and everything is still there.
set -euo pipefail
cd "$(dirname "$0")/.."
source_tree=$PWD
python=$(realpath -s "$1")
folder=$(mktemp -d)
node=

finish() {
    [ -z "$node" ] || kill -9 "$node" 2>/dev/null || true
    rm -rf "$folder"
}
trap finish EXIT

stop() {
    printf 'check_wheel: %s\n' "$*" >&2
    [ ! -s "$folder/node.log" ] || tail -n 20 "$folder/node.log" >&2
    exit 1
}

expect() {
    [ "$1" = "$2" ] || stop "expected '$2', got '$1'"
}

start_node() {
    seafoam-server 0 0 --data-dir "$folder/data" 2>"$folder/node.log" &
    node=$!
    for _ in $(seq 200); do
        address=$(sed -n 's|.*serves http://\([0-9.:]*\).*|\1|p' "$folder/node.log" | head -n 1)
        if [ -n "$address" ]; then
            export SEAFOAM_NODE=$address
            return
        fi
        kill -0 "$node" 2>/dev/null || stop "the node ended"
        sleep 0.1
    done
    stop "the node did not start within 20 seconds"
}

# Without arguments, build makes the sdist from the tree and the wheel from that sdist.
"$python" -m build --outdir "$folder/dist" . >"$folder/build.log" 2>&1 ||
    { tail -n 30 "$folder/build.log" >&2; stop "the packages do not build"; }
"$python" scripts/check_contents.py "$folder"/dist/*.tar.gz "$folder"/dist/*.whl

"$python" -m venv "$folder/venv"
cd "$folder"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check dist/*.whl
PATH="$folder/venv/bin:$PATH"
unset PYTHONPATH SEAFOAM_NODE
installed=$(python -c 'import os, seafoam; print(os.path.dirname(seafoam.__file__))')
case $installed in
"$source_tree"*) stop "the tests would use the source tree, not the wheel" ;;
esac

start_node
value='{"number":123456789012345678901234567890.10,"text":"þrjú","a":[1,null]}'
seafoam set document "$value" >/dev/null
for number in $(seq 1 3000); do
    printf '{"key":"line/%d","value":{"n":%d,"text":"Ægir"}}\n' "$number" "$number"
done >documents.jsonl
expect "$(seafoam load documents.jsonl)" "loaded 3000 documents"
kill -9 "$node"
wait "$node" 2>/dev/null || true
start_node
expect "$(seafoam get document)" "$value"
expect "$(seafoam get line/3000)" '{"n":3000,"text":"Ægir"}'
expect "$(seafoam keys line/ | wc -l)" 3000
kill "$node"
wait "$node" || stop "the node did not stop cleanly"
node=
printf 'check_wheel: the wheel does its job\n'
