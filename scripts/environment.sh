# Sourced by run, test, bench and javascript/check: finds a suitable Python, keeps environments and tools up to date.

say() { printf '%s\n' "$*" >&2; }

# Prints the path of a 64-bit Python 3.11 to 3.13.
find_python() {
    local name
    for name in python3 python3.13 python3.12 python3.11; do
        if "$name" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 14) and sys.maxsize > 2**32))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    say "No suitable Python: a 64-bit Python 3.11, 3.12 or 3.13 is needed, found $(python3 --version 2>&1 || true)."
    say "On Debian and Raspberry Pi OS (64-bit): sudo apt install python3 python3-venv"
    return 1
}

# make_venv FOLDER: a working virtual environment there, made again where the Python under it has gone.
make_venv() {
    local folder=$1 python
    if [ -x "$folder/bin/pip" ] && "$folder/bin/python" -c "" 2>/dev/null; then return; fi
    python=$(find_python)
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

# runtime_venv ROOT: the environment of scripts/run, holding the package as it now stands in the checkout.
runtime_venv() {
    make_venv "$1/.venv"
    install_into "$1/.venv" edge "$(cd "$1" && state_of edge export models pyproject.toml)" "$1"
}

# test_venv ROOT: the environment of scripts/test, holding the development extra.
test_venv() {
    local folder=$1/.venv-test torch
    make_venv "$folder"
    # torch by itself and first: a plain request takes the CPU build where one is at hand, and what comes after keeps it.
    torch=$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' "$1/pyproject.toml")
    install_into "$folder" torch "$torch" "$torch"
    install_into "$folder" dev "$(cd "$1" && state_of pyproject.toml)" --editable "$1[dev]"
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
