"""Which folder may import which: those in lower rows, and its own without a cycle; and nothing foreign out of place."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Rooms from the bottom up: what stands in one row may not import each other.
EDGE_ROWS = (
    ("arrays", "errors", "extras", "version"),
    ("types", "limits", "service"),
    ("bundle",),
    ("media",),
    ("engine",),
    ("speech",),
    ("chat",),
    ("models",),
    ("tools",),
    ("client", "devices", "server"),
    ("assistant", "batch"),
    ("commands",),
    ("cli",),
    ("__init__", "__main__"),
)
EXPORT_ROWS = (
    ("arrays", "errors", "memory", "choices"),
    ("journal", "naming"),
    ("checkpoint", "graph", "pack", "texts"),
    ("recipe", "reference"),
    ("quantize",),
    ("graphs",),
    ("calibrate", "certificate"),
    ("cache_scales",),
    ("plan", "specs", "speech", "target"),
    ("outline",),
    ("build", "report"),
    ("source", "commands"),
    ("cli", "__init__"),
)
RANKS = {
    (package, room): rank
    for package, rows in (("edge", EDGE_ROWS), ("export", EXPORT_ROWS))
    for rank, row in enumerate(rows)
    for room in row
}
DEVICE_FREE_OF = {"export", "gguf", "torch", "transformers", "onnx", "safetensors", "optimum"}
FROM_EDGE = {
    "edge.bundle.bundle", "edge.bundle.byte_level", "edge.bundle.hub", "edge.bundle.manifest",
    "edge.bundle.sizes", "edge.bundle.strict_json", "edge.errors", "edge.extras", "edge.version",
}  # fmt: skip
# What runs a bundle to certify it, and what lays texts out as its prompts, by the code that does it on a device.
MEASURING = {
    "export.certificate.answers",
    "export.certificate.document",
    "export.certificate.golden",
    "export.certificate.int8_cache",
    "export.certificate.measure",
    "export.certificate.passages",
    "export.certificate.reader",
    "export.certificate.said",
    "export.certificate.speech",
    "export.certificate.verify",
    "export.texts.read",
    "export.texts.sequences",
    "export.certificate.readable",
    "export.cache_scales",
    "export.calibrate",
    "export.build",
}
IMPORT_NAMES = {
    "huggingface-hub": "huggingface_hub",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "ml-dtypes": "ml_dtypes",
    "optimum-onnx": "optimum",
    "python-multipart": "python_multipart",
}


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("edge", "export"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imports(path: Path) -> set[str]:
    """Every module the file imports anywhere in it, submodules resolved: `from edge import models` is edge.models."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            below = names & MODULES.keys()
            found.update(below)
            if below != names:
                found.add(str(node.module))
    return found


def top(name: str) -> str:
    return name.partition(".")[0]


def own(found: set[str]) -> set[str]:
    return {name for name in found if top(name) in ("edge", "export")}


def room(module: str) -> tuple[str, str]:
    """The folder below its package that a module is in, or the module itself where it is in none."""
    package, _, rest = module.partition(".")
    return package, rest.partition(".")[0] or "__init__"


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_row(module: str) -> None:
    assert room(module) in RANKS, f"{module} is in no row of tests/test_layers.py"


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    for name in own(imports(MODULES[module])):
        if top(name) == top(module) and room(name) != room(module):
            assert RANKS[room(name)] < RANKS[room(module)], f"{module} imports {name}"


@pytest.mark.parametrize("package", ["edge", "export"])
def test_no_module_imports_itself_in_a_circle(package: str) -> None:
    graph = {
        module: [name for name in own(imports(path)) - {module} if top(name) == package]
        for module, path in MODULES.items()
        if top(module) == package
    }
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", [module for module in MODULES if top(module) == "edge"])
def test_device_needs_nothing_of_export(module: str) -> None:
    assert not {top(name) for name in imports(MODULES[module])} & DEVICE_FREE_OF


@pytest.mark.parametrize("module", [module for module in MODULES if top(module) == "export"])
def test_export_takes_little_from_edge(module: str) -> None:
    taken = {name for name in imports(MODULES[module]) if top(name) == "edge"}
    if module not in MEASURING:
        assert taken <= FROM_EDGE, f"{module} imports {taken - FROM_EDGE}"


def test_import_edge_loads_nothing_heavy() -> None:
    heavy = ("onnxruntime", "cv2", "PIL", "pydantic", "tokenizers", "typer", "rich", "numpy", "huggingface_hub")
    code = f"import edge, sys; sys.exit(', '.join(name for name in {heavy} if name in sys.modules) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, f"import edge loads {done.stderr.strip()}"


def foreign(package: str) -> set[str]:
    """The third-party packages that a package of ours imports."""
    found = {top(name) for module, path in MODULES.items() if top(module) == package for name in imports(path)}
    return found - set(sys.stdlib_module_names) - {"edge", "export"}


def declared(requirements: list[str]) -> set[str]:
    names = {re.split(r"[\[>=]", requirement)[0].strip() for requirement in requirements}
    return {IMPORT_NAMES.get(name, name) for name in names}


def test_dependencies_are_what_edge_imports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    # By pydantic, uvicorn and mcp, whose versions decide them.
    brought_along = {"pydantic_core", "h11", "anyio", "httpx2", "mcp_types"}
    server = declared(project["optional-dependencies"]["server"])
    others = {name for extra in ("av", "mcp", "ray") for name in declared(project["optional-dependencies"][extra])}
    assert foreign("edge") - brought_along == declared(project["dependencies"]) | server | others


def test_only_the_cluster_of_a_batch_needs_ray() -> None:
    assert {module for module, path in MODULES.items() if "ray" in {top(name) for name in imports(path)}} == {
        "edge.batch.cluster"
    }


def test_only_servers_of_mcp_need_its_sdk() -> None:
    sdk = {"mcp", "mcp_types", "httpx2", "anyio"}
    needing = {module for module, path in MODULES.items() if {top(name) for name in imports(path)} & sdk}
    assert needing and all(module.startswith("edge.tools.mcp.") for module in needing)
    code = "import edge, edge.cli, edge.tools.toolset, edge.tools.mcp.servers, sys; sys.exit('mcp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_batch_loads_ray_for_a_cluster_alone() -> None:
    code = "import edge.cli, edge.batch.work, edge.batch.cluster, sys; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_only_the_server_and_the_transport_need_the_server_extra() -> None:
    server = {"starlette", "uvicorn", "httpx", "h11", "python_multipart"}
    needing = {module for module, path in MODULES.items() if {top(name) for name in imports(path)} & server}
    names = ("asgi", "connection", "multipart", "server", "transport")
    assert needing == {f"edge.server.{name}" for name in names}


def test_export_extra_is_what_export_imports_besides() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    runtime = declared(project["dependencies"])
    assert foreign("export") - runtime == declared(project["optional-dependencies"]["export"])
