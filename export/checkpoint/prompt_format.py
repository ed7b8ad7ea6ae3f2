"""The prompt format of a Llama-format model, told from its chat template, which is compared and never run.

Known are ChatML, with or without a system message of its own, and Reka Flash. Any other is refused by its name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from edge.bundle.manifest import PromptSpec
from export.checkpoint.files import has_file, read_bytes, read_json
from export.checkpoint.template import Code, NotRead, Step, steps, strings
from export.checkpoint.tokenizer import TOKENIZER_CONFIG
from export.errors import CheckpointError, ConfigError, TokenizerError, UnsupportedError

Format = Literal["flash", "chatml"]

FORMATS: Final[tuple[Format, ...]] = get_args(Format)
TEMPLATE: Final = "chat_template.jinja"
GENERATION_CONFIG: Final = "generation_config.json"
FLASH_STOP: Final = "<sep>"  # plain text there
_TEMPLATE_BYTES = 1 << 20
_NEEDED: Mapping[Format, tuple[str, ...]] = {
    "flash": ("<|endoftext|>",), "chatml": ("<|im_start|>", "<|im_end|>"),
}  # fmt: skip
_ENDS: Mapping[Format, tuple[str, ...]] = {"flash": ("<|endoftext|>",), "chatml": ("<|im_end|>", "<|endoftext|>")}

_HOLE = "\0"  # where a template's own system message stands
_FOR, _END_FOR, _END_IF = "{% for message in messages %}", "{% endfor %}", "{% endif %}"
_SYSTEM = "{{ '<|im_start|>system\n" + _HOLE + "<|im_end|>\n' }}"
_TURN = "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
_OPEN_TURN = "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}"
_CLOSED = "{% if (loop.last and add_generation_prompt) or not loop.last %}{{ '<|im_end|>\n' }}{% endif %}"
_OF_ROLE = "{{ '<|im_start|>ROLE\n' + message['content'] + '<|im_end|>\n' }}"
_ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
_ASK_NO_ASSISTANT = _ASK.replace("prompt %", "prompt and messages[-1]['role'] != 'assistant' %")
_FIRST = "{% if loop.first and messages[0]['role'] != 'system' %}"
_ROLES = (
    "{% if message['role'] == 'user' %}" + _OF_ROLE.replace("ROLE", "user")
    + "{% elif message['role'] == 'assistant' %}" + _OF_ROLE.replace("ROLE", "assistant")
    + "{% else %}" + _OF_ROLE.replace("ROLE", "system") + _END_IF
)  # fmt: skip
_CHATML: Final = (
    _FOR + _TURN + _END_FOR + _ASK,
    _FOR + _FIRST + _SYSTEM + _END_IF + _TURN + _END_FOR + _ASK,
    "{% if messages[0]['role'] != 'system' %}" + _SYSTEM + _END_IF + _FOR + _TURN + _END_FOR + _ASK,
    _FOR + _FIRST + _SYSTEM + _END_IF + _OPEN_TURN + _CLOSED + _END_FOR + _ASK_NO_ASSISTANT,
    _FOR + _OPEN_TURN + _CLOSED + _END_FOR + _ASK_NO_ASSISTANT,
    _FOR + _ROLES + _END_FOR + _ASK,
)
_NO_DEFAULT = "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
_BOS = "{{ bos_token }}"

# What gives a template away that is not supported, the first that is found; the name is for the error.
_OTHERS: Final = (
    ("<|start_header_id|>", "Llama 3"), ("<|header_start|>", "Llama 4"), ("<|im_sep|>", "Phi 4"),
    ("<|im_middle|>", "Kimi"), ("<start_of_turn>", "Gemma"), ("<|START_OF_TURN_TOKEN|>", "Command R"),
    ("<|im_start|>", "a variant of ChatML"), ("<｜User｜>", "DeepSeek"), ("[INST]", "Mistral"),
    ("<|user|>", "Zephyr or Phi 3"), ("GPT4 Correct", "OpenChat"), ("<|start_of_role|>", "Granite"),
    ("### Instruction", "Alpaca"), ("USER:", "Vicuna"), ("<tool_response>", "Reka Edge"),
)  # fmt: skip


@dataclass(frozen=True)
class PromptForm:
    """format; system: the template's own system message; has_start: whether a prompt begins with bos_token."""

    format: Format
    system: str | None = None
    has_start: bool = False


@dataclass(frozen=True)
class PromptSource:
    """What a model says of its prompts. template: its chat template; end_ids: its eos_token_id; start: its bos_token.

    files: those that were read.
    """

    template: str | None
    end_ids: tuple[int, ...]
    start: str | None
    files: tuple[str, ...] = ()


def recognise(template: str) -> PromptForm:
    """The prompt format of a chat template. Raises: UnsupportedError naming what it is."""
    try:
        read = steps(template)
    except NotRead:
        read = ()
    found, has_start = _without_start(read)
    for known in _CHATML:
        said = _match(steps(known), found)
        if said is not None:
            return PromptForm("chatml", said[0] if said else None, has_start)
    if _is_flash(strings(template)):
        return PromptForm("flash")
    name = next((name for sign, name in _OTHERS if sign in template), None)
    what = f"that of {name}" if name else f"none that is known; it begins with {template.strip()[:60]!r}"
    raise UnsupportedError(
        f"chat template: {what}; supported are those of ChatML and Reka Flash, and --prompt-format"
        f" {' or '.join(FORMATS)} has prompts laid out in one of them all the same"
    )


def prompt_spec(
    source: PromptSource, control: Mapping[str, int], *, chosen: str | None = None
) -> tuple[PromptSpec, tuple[str, ...]]:
    """The prompt of a Llama-format model for the manifest, and what people should know of it.

    control: the control tokens of its tokenizer; chosen: a format of FORMATS, whatever the template is.
    Raises: UnsupportedError for a template that is not known, TokenizerError for a token that is missing.
    """
    form, notes = _form(source, control, chosen)
    for token in _NEEDED[form.format]:
        if token not in control:
            raise TokenizerError(
                f"tokenizer.json: added_tokens lack {token}: the prompt needs it, as its format is {form.format}"
            )
    start_ids = (_start_id(source.start, control),) if form.has_start else ()
    ids = set(control.values())
    ends = {control[token] for token in _ENDS[form.format] if token in control} | (ids & set(source.end_ids))
    unused = sorted(set(source.end_ids) - ids)
    if unused:
        notes.append(f"eos_token_id {', '.join(map(str, unused))}: no added token, so no end of an answer")
    stop_strings = (FLASH_STOP,) if form.format == "flash" else ()
    spec = PromptSpec(form.format, None, control, tuple(sorted(ends)), stop_strings, form.system, start_ids)
    return spec, tuple(notes)


def read_source(folder: Path) -> PromptSource:
    """What a checkpoint folder says of its prompts. Raises: CheckpointError, ConfigError."""
    files: list[str] = []
    ends: list[int] = []
    for name in ("config.json", GENERATION_CONFIG):
        if has_file(folder, name):
            files.append(name)
            ends += end_ids(read_json(folder, name).get("eos_token_id"), where=f"{name}: eos_token_id")
    config: Mapping[str, object] = {}
    if has_file(folder, TOKENIZER_CONFIG):
        files.append(TOKENIZER_CONFIG)
        config = read_json(folder, TOKENIZER_CONFIG)
    template = _template_of(config.get("chat_template"))
    if has_file(folder, TEMPLATE):
        files.append(TEMPLATE)
        template = _text(read_bytes(folder, TEMPLATE, max_bytes=_TEMPLATE_BYTES))
    start = config.get("bos_token")
    start = start.get("content") if isinstance(start, dict) else start
    return PromptSource(template, tuple(sorted(set(ends))), start if isinstance(start, str) else None, tuple(files))


def end_ids(value: object, *, where: str) -> tuple[int, ...]:
    """An `eos_token_id`: an id, a list of them, or none. Raises: ConfigError."""
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if not all(type(token) is int and token >= 0 for token in ids):
        raise ConfigError(f"{where} is {str(value)[:60]}: expected an id or a list of ids")
    return tuple(ids)


def _form(source: PromptSource, control: Mapping[str, int], chosen: str | None) -> tuple[PromptForm, list[str]]:
    """The format that is chosen, told from the template, or assumed where there is none; and notes."""
    if chosen is not None and chosen not in FORMATS:
        raise UnsupportedError(f"--prompt-format {chosen!r}: expected {' or '.join(FORMATS)}")
    if source.template is None:
        is_chatml = all(token in control for token in _NEEDED["chatml"])
        assumed: Format = "chatml" if is_chatml else "flash"
        given: Format = next((name for name in FORMATS if name == chosen), assumed)
        notes = [] if chosen else [f"no chat template: the prompt format {given} is assumed (--prompt-format)"]
        return PromptForm(given), notes
    if chosen is None:
        return recognise(source.template), []
    try:
        found = recognise(source.template)
    except UnsupportedError:
        found = None
    if found is not None and found.format == chosen:
        return found, []
    given = next(name for name in FORMATS if name == chosen)
    return PromptForm(given), [f"the prompt format {chosen} was chosen, which is not that of the chat template"]


def _start_id(start: str | None, control: Mapping[str, int]) -> int:
    if start is None or start not in control:
        raise TokenizerError(f"{TOKENIZER_CONFIG}: bos_token is {start!r}: expected an added token, as prompts need it")
    return control[start]


def _template_of(value: object) -> str | None:
    """The template of a tokenizer_config.json: a string, or the default one of several by name."""
    if isinstance(value, list):
        named = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
        value = named.get("default")
    if value is not None and not isinstance(value, str):
        raise CheckpointError(f"{TOKENIZER_CONFIG}: chat_template: expected a string, got {type(value).__name__}")
    return value


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{TEMPLATE}: expected UTF-8 text") from error


def _is_flash(words: str) -> bool:
    """Whether a template says what Reka Flash's says, and nothing of media or tools as Reka Edge's does."""
    has_all = all(word in words for word in ("human:", "assistant:", FLASH_STOP))
    return has_all and not any(word in words for word in ("<|im_start|>", "<tool_call>", "<image>"))


def _without_start(found: Sequence[Step]) -> tuple[Sequence[Step], bool]:
    """A template without its default for add_generation_prompt and without bos_token, and whether it had that."""
    default, (start,) = steps(_NO_DEFAULT), steps(_BOS)
    found = tuple(found)
    for i in range(min(len(found), 2)):
        if found[i : i + len(default)] == default:
            found = found[:i] + found[i + len(default) :]
    has_start = found[:1] == (start,)
    return found[1:] if has_start else found, has_start


def _match(known: Sequence[Step], found: Sequence[Step]) -> list[str] | None:
    """What a template has where a known one has its hole: one text or none; None where they differ."""
    if len(known) != len(found):
        return None
    filled: list[str] = []
    for step, other in zip(known, found, strict=True):
        if isinstance(step, Code) or isinstance(other, Code) or _HOLE not in step.text:
            if step != other:
                return None
            continue
        before, _, after = step.text.partition(_HOLE)
        text = other.text
        if not (text.startswith(before) and text.endswith(after) and len(text) >= len(before) + len(after)):
            return None
        filled.append(text[len(before) : len(text) - len(after)])
    return filled
