"""OpenAI's completions: a text that is continued as it stands, without any turns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edge.chat import Chat
from edge.chat.messages import Loc, Problems, shown
from edge.chat.reply import Reply, refused
from edge.chat.structured import structured
from edge.engine.handle import Progress
from edge.engine.scores import ShownToken, ShownTokens
from edge.limits import Limits
from edge.server.http import event
from edge.server.openai import errors_about, finite, now_s, openai_usage, refuse_absent, sampling
from edge.server.route import RouteRequest
from edge.types import ApiError

Fields = dict[str, object]

ERRORS = errors_about("prompt")
REFUSED: Mapping[str, str] = {
    "suffix": "text after the prompt is not supported; expected none",
    "messages": "expected prompt in its place, or POST /v1/chat/completions",
    "prompt_logprobs": "probabilities of the prompt are not supported; expected none",
}


@dataclass
class CompletionWriter:
    """POST /v1/completions: one choice; a stream of increments that ends with [DONE]. before: what is echoed."""

    streams: bool
    include_usage: bool
    before: str = ""
    scores: bool = False
    created: int = field(default_factory=now_s)
    _n_sent: int = 0
    _n_scored: int = 0
    _begun: bool = False
    _tokens: ShownTokens = field(default_factory=ShownTokens)

    def whole(self, reply: Reply, last: Progress) -> object:
        text, tokens = self._news(reply, last)
        usage = openai_usage(reply, last)
        return {**self._chunk(reply, self.before + text, _reason(last), tokens), "usage": usage}

    def events(self, reply: Reply, progress: Progress) -> bytes:
        text, tokens = self._news(reply, progress)
        text, self._begun = text if self._begun else self.before + text, True
        reason = _reason(progress)
        written = b""
        if text or tokens or reason is not None:
            chunk = self._chunk(reply, text, reason, tokens)
            written = event({**chunk, "usage": None} if self.include_usage else chunk)
        if reason is None:
            return written
        if self.include_usage:
            usage = {**self._chunk(reply, "", None, []), "choices": [], "usage": openai_usage(reply, progress)}
            written += event(usage)
        return written + b"data: [DONE]\n\n"

    def broken(self, reply: Reply, newest: Progress, error: ApiError) -> bytes:
        return ERRORS.event(error)

    def _news(self, reply: Reply, progress: Progress) -> tuple[str, list[ShownToken]]:
        """Return the text that is new, with probabilities by whole tokens."""
        said = reply.said(progress)
        if not self.scores:
            text = said.content[self._n_sent :]
            self._n_sent += len(text)
            return text, []
        self._tokens.take(progress.scores)
        tokens = self._tokens.give(progress.text, said.spans, whole=progress.finish_reason is not None)
        return "".join(token.text for token in tokens), tokens

    def _chunk(self, reply: Reply, text: str, reason: str | None, tokens: Sequence[ShownToken]) -> Fields:
        scores = self._scored(tokens) if self.scores else None
        choice = {"index": 0, "text": text, "logprobs": scores, "finish_reason": reason}
        head = {"id": f"cmpl-{reply.id}", "object": "text_completion", "created": self.created, "model": reply.model}
        return {**head, "choices": [choice]}

    def _scored(self, tokens: Sequence[ShownToken]) -> Fields:
        """Return the probabilities of tokens as this API writes them: a list for each of four fields."""
        offsets, logprobs, tops = [], [], []
        for token in tokens:
            offsets.append(self._n_scored)
            self._n_scored += len(token.text)
            logprobs.append(finite(token.score.log_probability))
            top = {data.decode("utf-8", "replace"): finite(value) for data, value in token.score.most_likely}
            tops.append({**top, token.text: logprobs[-1]} if token.text else top)
        texts = [token.text for token in tokens]
        return {"tokens": texts, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets}


@dataclass(frozen=True)
class Continuation:
    """A request to continue a text: `fields` as /v1/chat takes them, without messages. demand: what response_format."""

    text: str
    fields: Fields
    writer: CompletionWriter
    demand: str

    def place(self, loc: Loc) -> Loc:
        """Return where something stands in the request as it came."""
        match loc:
            case ("body", "messages", *_):
                return ("body", "prompt")
            case ("body", "top_logprobs"):
                return ("body", "logprobs")
            case ("body", "response_format", *rest):
                return ("body", self.demand, *rest)
        return loc


def read_completion(chat: Chat, body: Mapping[str, object]) -> RouteRequest:
    """Return what POST /v1/completions asks for. Raises: as from_completion and Chat.read_text."""
    asked = from_completion(body)
    return RouteRequest(chat.read_text(asked.text, asked.fields, place=asked.place), asked.writer)


def from_completion(body: Mapping[str, object]) -> Continuation:
    """Return a request as /v1/chat takes it; unknown fields are ignored.

    Raises: ApiError 400 for what is not there, UnprocessableEntityError naming every field that is wrong.
    """
    _refuse(body)
    problems = Problems()
    text = _read_prompt(body.get("prompt"), problems)
    demand = structured(body)
    n_top = _read_logprobs(body.get("logprobs"), problems)
    fields = {**sampling(body), "max_tokens": body.get("max_tokens")}
    fields |= {"logprobs": n_top is not None, "top_logprobs": n_top, "response_format": demand.response_format}
    options = body.get("stream_options")
    if options is not None and not isinstance(options, Mapping):
        problems.add(("body", "stream_options"), f"expected an object, got {shown(options)}", "dict_type")
    usage = options.get("include_usage") if isinstance(options, Mapping) else None
    include_usage = problems.flag(("body", "stream_options", "include_usage"), usage)
    streams = problems.flag(("body", "stream"), body.get("stream"))
    echoes = problems.flag(("body", "echo"), body.get("echo"))
    problems.raise_any()
    if echoes and n_top is not None:
        raise refused(400, f"logprobs: {REFUSED['prompt_logprobs']} beside echo")
    writer = CompletionWriter(streams, include_usage, text if echoes else "", n_top is not None)
    return Continuation(text, fields, writer, demand.field)


def _refuse(body: Mapping[str, object]) -> None:
    """Refuse what there is not. Raises: ApiError 400."""
    refuse_absent(body)
    for name, reason in REFUSED.items():
        if body.get(name) not in (None, ""):
            raise refused(400, f"{name}: {reason}")
    best_of = body.get("best_of")
    if best_of is not None and (isinstance(best_of, bool) or best_of != 1):
        raise refused(400, f"best_of: expected 1, got {shown(best_of)}")


def _read_prompt(prompt: object, problems: Problems) -> str:
    """Return the one text that a prompt is, which may be in a list."""
    text = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
    if isinstance(text, str) and text:
        return text
    got = f"a list of {len(prompt)}" if isinstance(prompt, list) and len(prompt) != 1 else shown(text)
    problems.add(("body", "prompt"), f"expected one text that is not empty (no token ids), got {got}", "string_type")
    return ""


def _read_logprobs(top: object, problems: Problems) -> int | None:
    """Return how many most likely tokens to report beside each one, None where no probabilities are asked for."""
    if top is None:
        return None
    if not isinstance(top, int) or isinstance(top, bool) or not 0 <= top <= Limits.top_logprobs:
        msg = f"expected an integer in [0, {Limits.top_logprobs}], got {shown(top)}"
        problems.add(("body", "logprobs"), msg, "value_error")
        return None
    return top


def _reason(progress: Progress) -> str | None:
    return "length" if progress.finish_reason == "context" else progress.finish_reason
