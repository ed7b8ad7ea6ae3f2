"""Functions as tools: the model calls them, their results go back to it, until it answers."""

from typing import Literal

import edge


@edge.tool(read_only=True)
def weather(city: Literal["Rome", "Oslo"], unit: Literal["C", "F"] = "C") -> dict[str, object]:
    """Tell the weather in a city.

    Args:
        city: Where it is asked for.
        unit: Of the temperature.
    """
    return {"city": city, "sky": "clear", "temperature": 21 if unit == "C" else 70}


def show(event: object) -> None:
    """Print each call and its result."""
    if isinstance(event, edge.ToolEnded):
        print(f"{event.call.name}({event.call.parameters}) -> {event.result.text}")


with edge.Reka() as client:
    answer = client.chat.run(
        model="reka-edge",
        messages=[{"role": "user", "content": "How is the weather in Rome?"}],
        tools=[weather],
        tool_choice="tool",  # of the first answer: the included model would not call by itself
        max_rounds=1,
        max_tokens=200,
        on_event=show,
    )
    print(answer.text, answer.finish_reason, answer.usage)
