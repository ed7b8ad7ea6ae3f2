"""What a model reasons is folded above its answer, and no part of what is sent or copied."""

import json

import pytest
from playwright.sync_api import Page, Request, expect

from tests.page.chatting import answers, ask, done, ready
from tests.page.conftest import Visit

pytestmark = pytest.mark.slow


def answer_with(page: Page, **spoken: str) -> None:
    chunk = {
        "id": "1", "model": "m", "usage": {"input_tokens": 5, "output_tokens": 5},
        "responses": [{"chunk": {"role": "assistant", **spoken}, "finish_reason": "stop"}],
    }  # fmt: skip
    body = f"data: {json.dumps(chunk)}\n\n"
    page.route("**/v1/chat", lambda route: route.fulfill(content_type="text/event-stream", body=body))


def test_reasoning_is_folded_and_not_sent_again(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    answer_with(page, content="It is red.", reasoning_content="I see <b>red</b>.")
    ask(page, "Which colour?")
    assert done(page) == "It is red."
    folded = answers(page).last.locator("details.reasoning")
    expect(folded.locator("p")).to_be_hidden()
    folded.locator("summary").click()
    expect(folded.locator("p")).to_have_text("I see <b>red</b>.")
    sent: list[Request] = []
    page.on("request", lambda request: sent.append(request) if request.url.endswith("/v1/chat") else None)
    ask(page, "Sure?")
    done(page, 2)
    assert "It is red." in str(sent[0].post_data) and "I see" not in str(sent[0].post_data)


def test_an_answer_without_reasoning_shows_none(visit: Visit, edge_serve: str) -> None:
    page = visit(edge_serve)
    ready(page)
    answer_with(page, content="It is red.")
    ask(page, "Which colour?")
    done(page)
    expect(answers(page).last.locator("details.reasoning")).to_be_hidden()
