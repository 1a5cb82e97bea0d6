// What the Vercel AI SDK makes of a server through two of its providers, case by case; asked by test_node_clients.py.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, generateText, jsonSchema, Output, streamText, tool } from "ai";
import { told } from "./asking.mjs";

const prompt = "tell me of the sea";
const place = jsonSchema({
  type: "object",
  properties: { place: { type: "string" } },
  required: ["place"],
  additionalProperties: false,
});
const lamps = jsonSchema({
  type: "object",
  properties: { place: { type: "string" }, lamps: { type: "number" } },
  required: ["place", "lamps"],
  additionalProperties: false,
});
const tools = { light: tool({ description: "Lights a lamp.", inputSchema: place }) }; // called, never carried out

// Ours alone, kept apart from all else: the id among the headers, and what a user interface shows by itself.
const ours = (headers, sources, metadata) => ({
  id: headers?.["x-attribution-id"] ?? null,
  extracted: metadata?.extracted ?? null,
  sources: sources.map(({ sourceType, url, title }) => ({ sourceType, url, title })),
});
// Citations lie in these, made into the SDK's own; told under `ours`, and raw in the bodies and chunks.
const citing = new Set(["citations", "annotations", "extracted"]);
const timeless = new Set(["headers", "request", "performance"]); // differ from one run to the next
const without = (names, value) =>
  JSON.parse(JSON.stringify(value ?? null, (name, inner) => (names.has(name) ? undefined : inner)));

// The raw body is where this SDK leaves what it does not know.
const whole = (result) => ({
  ours: ours(result.response.headers, result.sources, result.providerMetadata),
  text: result.text,
  content: without(citing, result.content.filter((part) => part.type !== "source")),
  toolCalls: result.toolCalls,
  reasoning: result.reasoning,
  finishReason: result.finishReason,
  usage: result.usage,
  warnings: result.warnings,
  providerMetadata: without(citing, result.providerMetadata),
  body: result.steps[0].response.body,
});
const asked = { prompt, maxRetries: 0, include: { responseBody: true } };
const generate = (more = {}) => async (model) => whole(await generateText({ ...asked, model, ...more }));
const generateShaped = async (model) => {
  const result = await generateText({ ...asked, model, output: Output.object({ schema: lamps }) });
  return { ...whole(result), shaped: result.output };
};

const scrubbed = (part) => without(timeless, part.type === "raw" ? part : without(citing, part));
const stream = (more = {}) => async (model) => {
  let failure = null;
  const onError = ({ error }) => {
    failure = error;
  };
  const result = streamText({ model, prompt, maxRetries: 0, include: { rawChunks: true }, onError, ...more });
  const parts = [];
  for await (const part of result.fullStream) parts.push(part);
  if (failure) throw failure;
  return {
    ours: ours((await result.response).headers, await result.sources, await result.providerMetadata),
    parts: parts.filter((part) => part.type !== "source").map(scrubbed),
    text: await result.text,
    usage: await result.usage,
    finishReason: await result.finishReason,
    shaped: more.output ? await result.output : null,
  };
};
const shapedStream = stream({ output: Output.object({ schema: lamps }) });
const leaving = async (model) => {
  const result = streamText({ model, prompt, maxRetries: 0 });
  for await (const text of result.textStream) return text;
};

// The compatible provider hands unknown members to whoever asks for them: seven lines of an app.
const metadataExtractor = {
  extractMetadata: async ({ parsedBody }) => extracted(parsedBody.attribution),
  createStreamExtractor: () => {
    let found;
    return { processChunk: (chunk) => (found ??= chunk.attribution), buildMetadata: () => extracted(found) };
  },
};
const extracted = (attribution) => attribution && { extracted: { attribution } };

const providers = {
  "openai chat": ({ openai }, model) => openai.chat(model),
  "openai responses": ({ openai }, model) => openai.responses(model),
  "openai completion": ({ openai }, model) => openai.completion(model),
  "compatible chat": ({ compatible }, model) => compatible.chatModel(model),
  "extracting chat": ({ extracting }, model) => extracting.chatModel(model),
  "compatible completion": ({ compatible }, model) => compatible.completionModel(model),
};
const asking = {
  "generateText": generate(),
  "generateText, tools": generate({ tools }),
  "generateText, a schema": generateShaped,
  "streamText": stream(),
  "streamText, tools": stream({ tools }),
  "streamText, a schema": shapedStream,
  "streamText, left after a piece": leaving,
};
const textual = new Set(["generateText", "streamText"]); // all that completions can do, and enough of the extractor

const cases = {};
const refusals = {};
for (const [name, model] of Object.entries(providers)) {
  for (const [title, ask] of Object.entries(asking)) {
    if (/completion|extracting/.test(name) && !textual.has(title)) continue;
    cases[`${name}: ${title}`] = (made, id) => ask(model(made, id));
    if (textual.has(title)) refusals[`${name}: ${title}`] = cases[`${name}: ${title}`];
  }
}
refusals["too much"] = ({ openai }, id) =>
  generateText({ model: openai.chat(id), prompt: "a".repeat(100_000), maxRetries: 0 });

const asWritten = (error) => ({
  kind: APICallError.isInstance(error) ? "APICallError" : String(error?.stack ?? error),
  status: error.statusCode,
  message: error.message,
  body: error.responseBody,
  isRetryable: error.isRetryable,
  retry: error.responseHeaders?.["retry-after"] ?? null,
});
const client = ({ base, key }, view) => {
  const way = { baseURL: base, apiKey: key, headers: { "x-attribution": view } };
  const compatible = { name: "rote", includeUsage: true, supportsStructuredOutputs: true, ...way };
  return {
    openai: createOpenAI(way),
    compatible: createOpenAICompatible(compatible),
    extracting: createOpenAICompatible({ ...compatible, metadataExtractor }),
  };
};

await told({ client, cases, refusals, asWritten });
