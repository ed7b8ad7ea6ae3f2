// What every client of these tests asks, and where: the server and the key are the environment's.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { z } from "zod";

export const url = process.env.EDGE_URL;
export const key = process.env.EDGE_API_KEY;
export const model = "reka-edge";
export const question = "What shapes are there?";
export const image = readFileSync(process.env.EDGE_IMAGE);
export const imageUrl = `data:image/png;base64,${image.toString("base64")}`;

// The answer that a schema says, and the arguments of the one tool that there is.
export const Counted = z.object({ shape: z.enum(["star", "ring"]), many: z.boolean() });
export const parameters = {
  type: "object",
  properties: { shape: { enum: ["star", "ring"] } },
  required: ["shape"],
  additionalProperties: false,
};

/** Checks that a value is one that the schema allows. */
export function isCounted(value) {
  Counted.parse(value);
}

/** Checks that the arguments of a call are ones that the tool has. */
export function isCall(name, input) {
  assert.equal(name, "count");
  assert.ok(["star", "ring"].includes(input.shape), JSON.stringify(input));
}

/** The items of a stream. */
export async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}
