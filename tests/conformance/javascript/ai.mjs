// Vercel's AI SDK, by every provider of it that may ask this server.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError,
  experimental_generateSpeech,
  generateObject,
  generateText,
  jsonSchema,
  Output,
  stepCountIs,
  streamText,
  tool,
} from "ai";
import { all, Counted, image, isCall, isCounted, key, model, parameters, question, url } from "./asking.mjs";

const at = { baseURL: `${url}/v1`, apiKey: key };
const openai = createOpenAI(at);
const anthropic = createAnthropic(at);
const compatible = createOpenAICompatible({ ...at, name: "edge", includeUsage: true, supportsStructuredOutputs: true });
const stateless = { openai: { store: false } }; // else it would name what the server does not keep

const PROVIDERS = [
  ["openai, its default", openai, stateless],
  ["openai.chat", openai.chat, {}],
  ["anthropic", anthropic, {}],
  ["anthropic, with a schema", anthropic, { anthropic: { structuredOutputMode: "outputFormat" } }],
  ["openai-compatible", compatible, {}],
];

for (const [name, provider, providerOptions] of PROVIDERS) {
  const how = { model: provider(model), temperature: 0, maxRetries: 0, providerOptions };
  const short = { ...how, maxOutputTokens: 12 };
  const long = { ...how, maxOutputTokens: 80 };

  describe(name, () => {
    test("a text, and a stream that adds up to it", async () => {
      const whole = await generateText({ ...short, prompt: question, system: "Be brief." });
      const stream = streamText({ ...short, prompt: question, system: "Be brief." });
      const text = (await all(stream.textStream)).join("");
      assert.ok(text.length > 0);
      assert.equal(text, whole.text);
      assert.equal((await stream.usage).outputTokens, whole.usage.outputTokens);
      assert.ok(["stop", "length"].includes(whole.finishReason), whole.finishReason);
    });

    test("an image takes tokens", async () => {
      const content = [
        { type: "image", image },
        { type: "text", text: question },
      ];
      const seen = await generateText({ ...short, messages: [{ role: "user", content }] });
      const plain = await generateText({ ...short, prompt: question });
      assert.ok(seen.usage.inputTokens > plain.usage.inputTokens);
    });

    test("a tool is called, and its result is read", async () => {
      const inputs = [];
      const execute = async (input) => {
        inputs.push(input);
        return { n: 3 };
      };
      const tools = { count: tool({ description: "Counts.", inputSchema: jsonSchema(parameters), execute }) };
      const messages = [{ role: "user", content: question }];
      const called = await generateText({ ...long, messages, tools, toolChoice: "required", stopWhen: stepCountIs(1) });
      assert.equal(called.finishReason, "tool-calls");
      isCall(called.toolCalls[0].toolName, called.toolCalls[0].input);
      const streamed = streamText({ ...long, messages, tools, toolChoice: "required", stopWhen: stepCountIs(1) });
      assert.deepEqual((await streamed.toolCalls)[0].input, called.toolCalls[0].input);
      assert.equal(inputs.length, 2);
      const history = [...messages, ...called.response.messages];
      const after = await generateText({ ...short, messages: history, tools, toolChoice: "none" });
      assert.ok(after.text.length > 0);
      assert.ok(after.usage.inputTokens > 0);
    });

    test("an answer is what a schema says", async () => {
      isCounted((await generateObject({ ...long, prompt: question, schema: Counted })).object);
      const output = Output.object({ schema: Counted });
      isCounted((await generateText({ ...long, prompt: question, output })).output);
      const stream = streamText({ ...long, prompt: question, output });
      await all(stream.textStream);
      isCounted(await stream.output);
    });

    test("an error has the server's words", async () => {
      const asked = { ...short, model: provider("nobody"), prompt: question };
      const unknown = generateText(asked);
      await assert.rejects(unknown, (error) => {
        assert.ok(APICallError.isInstance(error), String(error));
        assert.equal(error.statusCode, 404);
        assert.match(error.message, /nobody/);
        return true;
      });
      const errors = [];
      const onError = ({ error }) => errors.push(error);
      await all(streamText({ ...asked, onError }).textStream);
      assert.deepEqual(
        errors.map((error) => error.statusCode),
        [404],
      );
    });
  });
}

test("a text is continued by openai.completion", async () => {
  const asked = { model: openai.completion(model), prompt: "Three", maxOutputTokens: 8, temperature: 0, maxRetries: 0 };
  assert.equal(typeof (await generateText(asked)).text, "string");
});

test("a text is spoken by openai.speech", async () => {
  const asked = { model: openai.speech("tts-1"), text: "Good morning. How are you?", maxRetries: 0 };
  const { audio } = await experimental_generateSpeech({ ...asked, voice: "alloy" });
  assert.equal(audio.mediaType, "audio/mpeg");
  assert.ok(audio.uint8Array.length > 1000);
  const wav = await experimental_generateSpeech({ ...asked, outputFormat: "wav", speed: 1.5, instructions: "Calm." });
  assert.equal(wav.audio.mediaType, "audio/wav");
  const nobody = experimental_generateSpeech({ ...asked, voice: "nobody" });
  await assert.rejects(nobody, (error) => error.statusCode === 400 && error.message.includes("nobody"));
});
