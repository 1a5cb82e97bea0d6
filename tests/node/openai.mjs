// What the official Node client makes of a server, case by case; asked by test_node_clients.py.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { collected, told } from "./asking.mjs";

const messages = [{ role: "user", content: "tell me of the sea" }];
const Lamps = z.object({ place: z.string(), lamps: z.number() });
const parameters = {
  type: "object",
  properties: { place: { type: "string" } },
  required: ["place"],
  additionalProperties: false,
};
const light = { name: "light", description: "Lights a lamp.", parameters, strict: true };
const tools = [{ type: "function", function: light }];
const usage = { stream_options: { include_usage: true } };

const chat = (more = {}) => (client, model) => client.chat.completions.create({ model, messages, ...more });
const completion = (more = {}) => (client, model) => client.completions.create({ model, prompt: "a", ...more });
const response = (more = {}) => (client, model) => client.responses.create({ model, input: "a", ...more });
const streamed = (asking) => async (...who) => collected(await asking(...who));

const chatHelper = (more = {}) => async (client, model) => {
  const helper = client.chat.completions.stream({ model, messages, ...more });
  const chunks = collected(helper);
  return { chunks: await chunks, final: await helper.finalChatCompletion() };
};
const responseHelper = (more = {}) => async (client, model) => {
  const helper = client.responses.stream({ model, input: "a", ...more });
  const kinds = [];
  for await (const event of helper) kinds.push(event.type);
  return { kinds, final: await helper.finalResponse() };
};

const cases = {
  "chat": chat(),
  "chat, tools": chat({ tools }),
  "chat, two choices": chat({ n: 2 }),
  "chat, a schema parsed": (client, model) =>
    client.chat.completions.parse({ model, messages, response_format: zodResponseFormat(Lamps, "lamps") }),
  "chat stream": streamed(chat({ stream: true })),
  "chat stream, usage asked": streamed(chat({ stream: true, ...usage })),
  "chat stream, tools": streamed(chat({ stream: true, tools })),
  "chat stream, two choices and usage": streamed(chat({ stream: true, n: 2, ...usage })),
  "chat stream, left after an event": async (...who) => {
    for await (const chunk of await chat({ stream: true })(...who)) return chunk;
  },
  "chat helper": chatHelper(),
  "chat helper, tools": chatHelper({ tools }),
  "chat helper, two choices and usage": chatHelper({ n: 2, ...usage }),
  "completions": completion(),
  "completions stream": streamed(completion({ stream: true })),
  "completions stream, two choices and usage": streamed(completion({ stream: true, n: 2, ...usage })),
  "responses": response(),
  "responses, tools": response({ tools: [{ type: "function", ...light }] }),
  "responses, a schema parsed": (client, model) =>
    client.responses.parse({ model, input: "a", text: { format: zodTextFormat(Lamps, "lamps") } }),
  "responses stream": streamed(response({ stream: true })),
  "responses stream, tools": streamed(response({ stream: true, tools: [{ type: "function", ...light }] })),
  "responses helper": responseHelper(),
};
const refusals = {
  "chat": chat(),
  "chat stream": chat({ stream: true }),
  "responses": response(),
  "too much": (client, model) =>
    client.chat.completions.create({ model, messages: [{ role: "user", content: "a".repeat(100_000) }] }),
};

const asWritten = (error) => ({
  kind: error.constructor.name,
  status: error.status,
  code: error.code,
  param: error.param,
  type: error.type,
  message: error.message,
  retry: error.headers?.get("retry-after") ?? null,
});
const client = ({ base, key }, view) =>
  new OpenAI({ baseURL: base, apiKey: key, maxRetries: 0, defaultHeaders: { "x-attribution": view } });

await told({ client, cases, refusals, asWritten });
