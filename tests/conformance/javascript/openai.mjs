// The `openai` client for node: chat completions, responses, completions and models.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { all, Counted, image, imageUrl, isCall, isCounted, key, model, parameters, question, url } from "./asking.mjs";

const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: question }];
const how = { model, temperature: 0 };
const short = { ...how, max_tokens: 12 };
const brief = { ...how, max_output_tokens: 12 };
const tool = { type: "function", function: { name: "count", description: "Counts.", parameters } };
const flat = { type: "function", name: "count", description: "Counts.", parameters, strict: true };

test("a completion, and a stream that adds up to it", async () => {
  const whole = await client.chat.completions.create({ ...short, messages });
  const stream = await client.chat.completions.create({ ...short, messages, stream: true });
  const text = (await all(stream)).map((chunk) => chunk.choices[0].delta.content ?? "").join("");
  assert.ok(text.length > 0);
  assert.equal(text, whole.choices[0].message.content);
  const helped = client.chat.completions.stream({ ...short, messages });
  assert.equal(await helped.finalContent(), text);
});

test("an image takes tokens of a completion", async () => {
  const content = [
    { type: "image_url", image_url: { url: imageUrl } },
    { type: "text", text: question },
  ];
  const seen = await client.chat.completions.create({ ...short, messages: [{ role: "user", content }] });
  const plain = await client.chat.completions.create({ ...short, messages });
  assert.ok(seen.usage.prompt_tokens > plain.usage.prompt_tokens);
});

test("a tool of a completion is called, and its result is read", async () => {
  const asked = { ...how, max_tokens: 80, messages, tools: [tool], tool_choice: "required" };
  const { message } = (await client.chat.completions.create(asked)).choices[0];
  const [call] = message.tool_calls;
  isCall(call.function.name, JSON.parse(call.function.arguments));
  const stream = client.chat.completions.stream(asked);
  const [streamed] = (await stream.finalMessage()).tool_calls;
  assert.deepEqual(streamed.function.arguments, call.function.arguments);
  const result = { role: "tool", tool_call_id: call.id, content: "3" };
  const after = await client.chat.completions.create({ ...short, messages: [...messages, message, result] });
  assert.ok(after.choices[0].message.content.length > 0);
});

test("a completion is what a schema says", async () => {
  const asked = { ...how, max_tokens: 80, messages, response_format: zodResponseFormat(Counted, "counted") };
  isCounted((await client.chat.completions.parse(asked)).choices[0].message.parsed);
});

test("a response, and a stream that adds up to it", async () => {
  const whole = await client.responses.create({ ...brief, input: question });
  const stream = client.responses.stream({ ...brief, input: question });
  const events = await all(stream);
  const text = events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta);
  assert.equal(text.join(""), whole.output_text);
  assert.equal((await stream.finalResponse()).output_text, whole.output_text);
  assert.ok(whole.output_text.length > 0);
});

test("an image takes tokens of a response", async () => {
  const content = [
    { type: "input_image", image_url: imageUrl, detail: "auto" },
    { type: "input_text", text: question },
  ];
  const seen = await client.responses.create({ ...brief, input: [{ role: "user", content }] });
  const plain = await client.responses.create({ ...brief, input: question });
  assert.ok(seen.usage.input_tokens > plain.usage.input_tokens);
});

test("a tool of a response is called, and its output is read", async () => {
  const asked = { ...how, max_output_tokens: 80, input: messages, tools: [flat], tool_choice: "required" };
  const called = await client.responses.create(asked);
  const [call] = called.output;
  isCall(call.name, JSON.parse(call.arguments));
  const output = { type: "function_call_output", call_id: call.call_id, output: "3" };
  const after = await client.responses.create({ ...brief, input: [...messages, ...called.output, output] });
  assert.ok(after.output_text.length > 0);
});

test("a response is what a schema says", async () => {
  const text = { format: zodTextFormat(Counted, "counted") };
  isCounted((await client.responses.parse({ ...how, max_output_tokens: 80, input: question, text })).output_parsed);
});

test("a text is continued", async () => {
  const continued = await client.completions.create({ ...short, prompt: "There are three" });
  assert.equal(typeof continued.choices[0].text, "string");
});

test("models are listed and described", async () => {
  const ids = (await all(client.models.list())).map(({ id }) => id);
  assert.ok(ids.includes((await client.models.retrieve(model)).id));
});

test("errors are the client's own", async () => {
  const unknown = client.chat.completions.create({ ...short, model: "gpt", messages });
  await assert.rejects(unknown, (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
  const wrong = client.responses.create({ ...brief, input: question, temperature: -1 });
  await assert.rejects(wrong, (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
  const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "wrong", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
  const broken = { type: "image_url", image_url: { url: `data:image/png;base64,${image.toString("base64", 0, 60)}` } };
  const damaged = client.chat.completions.create({ ...short, messages: [{ role: "user", content: [broken] }] });
  await assert.rejects(damaged, OpenAI.BadRequestError);
});

test("a text is spoken", async () => {
  const asked = { model: "tts-1", voice: "alloy", input: "Good morning. How are you?" };
  const pcm = await client.audio.speech.create({ ...asked, response_format: "pcm" });
  assert.equal(pcm.headers.get("content-type"), "audio/pcm");
  assert.ok((await pcm.arrayBuffer()).byteLength > 24_000);
  const wav = await client.audio.speech.create({ ...asked, voice: { id: "alloy" }, response_format: "wav" });
  assert.equal(Buffer.from(await wav.arrayBuffer()).toString("latin1", 0, 4), "RIFF");
  const refused = client.audio.speech.create({ ...asked, voice: "nobody" });
  await assert.rejects(refused, (error) => error instanceof OpenAI.BadRequestError && error.param === "voice");
});
