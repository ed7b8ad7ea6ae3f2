"""The document is true: what is made from it gets no 5xx and no status or form it does not name, keyed and not."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import schemathesis
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from edge.app import ROUTES
from edge.openapi import document
from tests.conformance.conftest import Served, serving

CHECKS = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
)
SETTINGS = hypothesis.settings(
    deadline=None, suppress_health_check=list(hypothesis.HealthCheck), derandomize=True, database=None
)


@pytest.fixture(scope="module")
def keyed(int8_bundle: Path) -> Iterator[Served]:
    with serving(int8_bundle, key="secret") as served:
        yield served


OPERATIONS = {
    operation.ok().path: operation.ok() for operation in schemathesis.openapi.from_dict(document()).get_all_operations()
}


def test_every_route_is_in_the_document() -> None:
    assert {path: next(iter(item)).upper() for path, item in document()["paths"].items()} == dict(ROUTES)


@pytest.mark.slow
@pytest.mark.parametrize("path", list(ROUTES))
def test_what_the_document_makes_is_answered_as_it_says(path: str, served: Served) -> None:
    @hypothesis.given(case=OPERATIONS[path].as_strategy())
    @hypothesis.settings(SETTINGS, max_examples=40 if ROUTES[path] == "POST" else 5)
    def answered(case: schemathesis.Case) -> None:
        bounded(case)
        case.call_and_validate(base_url=served.address, checks=list(CHECKS))

    answered()


@pytest.mark.parametrize("path", list(ROUTES))
def test_without_the_key_nothing_else_is_answered(path: str, keyed: Served) -> None:
    @hypothesis.given(case=OPERATIONS[path].as_strategy())
    @hypothesis.settings(SETTINGS, max_examples=4)
    def answered(case: schemathesis.Case) -> None:
        case.headers = {}
        response = case.call(base_url=keyed.address)
        case.validate_response(response, checks=list(CHECKS))
        assert response.status_code == (200 if path in ("/health", "/") else 401)

    answered()


def bounded(case: schemathesis.Case) -> None:
    """Keep what is generated short: the document's own default is a thousand tokens."""
    if isinstance(case.body, dict):
        name = "request_output_len" if case.path == "/chat" else "max_tokens"
        case.body[name] = min(case.body.get(name) or 3, 3)
        case.body["model" if case.path != "/chat" else "model_name"] = "reka-edge"
