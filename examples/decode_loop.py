"""The decode loop by hand: text to token ids, one id after another, and the ids back to text."""

from edge import Engine, models

with Engine.open(models.find("reka-edge", {}).path) as engine:
    tokenizer = engine.tokenizer
    separator = tokenizer.control["<sep>"]  # no text becomes a control token
    prompt = [*tokenizer.encode("human: Who are you? "), separator, *tokenizer.encode(" assistant:")]

    answer: list[int] = []
    for token in engine.generate(prompt, max_tokens=60):  # sample=...: from logits, (V,) float32, to an id
        answer.append(token)

    print(f"{len(prompt)} ids in, {len(answer)} out, the first of them {answer[:6]}")
    print(tokenizer.decode(answer).strip())
