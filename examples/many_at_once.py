"""Many questions from one event loop, a few at a time."""

import asyncio

from edge import AsyncReka, ChatMessage

QUESTIONS = ("Hello!", "Who are you?", "What can you do?", "Which shapes do you know?", "Thank you!", "Goodbye!")


async def main() -> None:
    at_once = asyncio.Semaphore(3)
    async with AsyncReka() as client:

        async def ask(question: str) -> str:
            async with at_once:
                message = ChatMessage(role="user", content=question)
                response = await client.chat.create(model="reka-edge", messages=[message])
                return str(response.responses[0].message.content)

        for question, answer in zip(QUESTIONS, await asyncio.gather(*map(ask, QUESTIONS)), strict=True):
            print(f"{question} {answer}")


asyncio.run(main())
