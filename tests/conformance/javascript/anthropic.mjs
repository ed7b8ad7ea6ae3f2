// The `@anthropic-ai/sdk` client for node: messages, their tokens, models.
import assert from "node:assert/strict";
import { test } from "node:test";
import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { all, Counted, image, isCall, isCounted, key, model, parameters, question, url } from "./asking.mjs";

const client = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: question }];
const how = { model, temperature: 0, max_tokens: 12, messages };
const tool = { name: "count", description: "Counts.", input_schema: parameters };
const media = { type: "base64", media_type: "image/png", data: image.toString("base64") };

test("a message, and a stream that adds up to it", async () => {
  const whole = await client.messages.create({ ...how, system: "Be brief." });
  const events = await all(await client.messages.create({ ...how, system: "Be brief.", stream: true }));
  const names = [...new Set(events.map((event) => event.type))];
  const block = ["content_block_start", "content_block_delta", "content_block_stop"];
  assert.deepEqual(names, ["message_start", ...block, "message_delta", "message_stop"]);
  const stream = client.messages.stream({ ...how, system: "Be brief." });
  const final = await stream.finalMessage();
  assert.deepEqual(final.content, whole.content);
  assert.deepEqual([final.stop_reason, final.usage], [whole.stop_reason, whole.usage]);
  assert.ok(whole.content[0].text.length > 0);
});

test("images and documents take tokens, which are counted", async () => {
  const text = { type: "text", text: question };
  const { input_tokens: plain } = await client.messages.countTokens({ model, messages });
  const words = { type: "text", media_type: "text/plain", data: "There is a star." };
  for (const block of [
    { type: "image", source: media },
    { type: "document", source: words },
  ]) {
    const asked = [{ role: "user", content: [block, text] }];
    const { usage } = await client.messages.create({ ...how, messages: asked });
    assert.equal(usage.input_tokens, (await client.messages.countTokens({ model, messages: asked })).input_tokens);
    assert.ok(usage.input_tokens > plain);
  }
});

test("a tool is called, and its result is read", async () => {
  const asked = { ...how, max_tokens: 80, tools: [tool], tool_choice: { type: "any" } };
  const message = await client.messages.create(asked);
  const [call] = message.content;
  isCall(call.name, call.input);
  assert.equal(message.stop_reason, "tool_use");
  const [streamed] = (await client.messages.stream(asked).finalMessage()).content;
  assert.deepEqual(streamed.input, call.input);
  const content = [{ type: "tool_result", tool_use_id: call.id, content: [{ type: "image", source: media }] }];
  const said = [...messages, { role: "assistant", content: message.content }, { role: "user", content }];
  const after = await client.messages.create({ ...how, messages: said, tools: [tool] });
  assert.ok(after.usage.input_tokens > message.usage.input_tokens);
});

test("the client's tool runner runs its tools", async () => {
  const inputs = [];
  const run = (input) => {
    inputs.push(input);
    return "3";
  };
  const runnable = betaTool({ name: "count", description: "Counts.", inputSchema: parameters, run });
  const asked = { ...how, max_tokens: 80, tools: [runnable], tool_choice: { type: "any" }, max_iterations: 2 };
  const answers = await all(client.beta.messages.toolRunner(asked));
  assert.deepEqual(
    answers.map((message) => message.stop_reason),
    ["tool_use", "tool_use"],
  );
  isCall("count", inputs[0]);
});

test("an answer is what a schema says", async () => {
  const asked = { ...how, max_tokens: 80, output_config: { format: zodOutputFormat(Counted) } };
  isCounted((await client.messages.parse(asked)).parsed_output);
});

test("models are listed and described", async () => {
  const ids = (await all(client.models.list())).map(({ id }) => id);
  assert.ok(ids.includes((await client.models.retrieve(model)).id));
});

test("errors are the client's own", async () => {
  const kinds = [
    [{ model: "claude" }, Anthropic.NotFoundError, "not_found_error"],
    [{ max_tokens: 0 }, Anthropic.BadRequestError, "invalid_request_error"],
  ];
  for (const [fields, kind, type] of kinds) {
    const refused = client.messages.create({ ...how, ...fields });
    await assert.rejects(refused, (error) => error instanceof kind && error.error.error.type === type);
  }
  const stranger = new Anthropic({ baseURL: url, apiKey: "wrong", maxRetries: 0 });
  await assert.rejects(stranger.messages.create(how), Anthropic.AuthenticationError);
});
