"""A hub's repository as a model name: the bundle that was exported from it, else the commands that make one."""

import dataclasses
from pathlib import Path

import pytest

from edge.bundle import store
from edge.bundle.install import install
from edge.bundle.manifest import MANIFEST, Source, dump_manifest
from edge.errors import UnknownModelError
from tests.edge.bundle.test_store import find, folder, manifest, write_bundle

__all__ = ["folder"]  # a fixture


def test_a_bundle_is_found_by_the_repository_that_it_was_exported_from(tmp_path: Path) -> None:
    for bundle_id, revision in (("first", "1" * 40), ("second", "2" * 40)):
        made = write_bundle(tmp_path / bundle_id, bundle_id)
        source = Source("YasaCausalLM", {}, (), (), "RekaAI/reka-edge-2603", revision)
        (made / MANIFEST).write_bytes(dump_manifest(dataclasses.replace(manifest(bundle_id), source=source)))
        install(made)
    assert find("RekaAI/reka-edge-2603") == "first"
    assert find(f"RekaAI/reka-edge-2603@{'2' * 40}") == "second"
    assert find("mine", mine="RekaAI/reka-edge-2603") == "first"
    store.set_default("second")
    assert find("RekaAI/reka-edge-2603") == "second"
    with pytest.raises(UnknownModelError, match="'RekaAI/reka-edge' is not installed"):
        find("RekaAI/reka-edge")


def test_a_repository_that_is_not_installed_is_told_with_the_commands_that_make_it() -> None:
    with pytest.raises(UnknownModelError) as caught:
        find("RekaAI/reka-edge-2603@main")
    assert "installed: reka-edge-tiny" in str(caught.value)
    assert "edge-export RekaAI/reka-edge-2603@main --out reka-edge-2603, then" in str(caught.value)
    assert "edge models install reka-edge-2603" in str(caught.value)
    assert "edge models pull RekaAI/reka-edge-2603@main" in str(caught.value)
