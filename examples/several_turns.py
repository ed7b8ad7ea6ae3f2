"""A conversation: what was said before is sent again with every question."""

from edge import ChatMessage, Reka

with Reka() as client:
    messages = [ChatMessage(role="user", content="My name is Max.")]
    for question in ("What is my name?", "Thank you!"):
        answer = client.chat.create(model="reka-edge", messages=messages).responses[0].message
        print(answer.content)
        messages += [answer, ChatMessage(role="user", content=question)]
    print(client.chat.create(model="reka-edge", messages=messages).responses[0].message.content)
