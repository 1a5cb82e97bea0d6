// What the official Node client makes of a server: one JSON line, compared by test_openai_node.py between the
// backend itself and the proxy before it. usage: node client.mjs BASE_URL KEY MODEL
import OpenAI from "openai";

const [baseURL, apiKey, model] = process.argv.slice(2);
// Patient with slow machines: this is about what arrives, not when.
const defaultHeaders = { "x-attribution-deadline-ms": "20000" };
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, defaultHeaders });
const messages = [{ role: "user", content: "Quote the chorus of the paper umbrella song." }];
const found = {};

const whole = await client.chat.completions.create({ model, messages }).withResponse();
found.json = whole.data.choices[0].message.content;
found.jsonCredits = whole.data.attribution ?? null;
found.jsonId = whole.response.headers.get("x-attribution-id");

const options = { stream: true, stream_options: { include_usage: true } };
const stream = await client.chat.completions.create({ model, messages, ...options });
found.loop = "";
found.loopCredits = [];
for await (const chunk of stream) {
  found.loop += chunk.choices[0]?.delta?.content ?? "";
  if (chunk.attribution) found.loopCredits.push([chunk.choices[0].finish_reason, chunk.attribution.status]);
  if (chunk.usage) found.loopUsage = chunk.usage.completion_tokens;
}

const helper = client.chat.completions.stream({ model, messages });
const final = await helper.finalChatCompletion();
found.helper = final.choices[0].message.content;
found.helperCredits = final.attribution ?? null;

try {
  await new OpenAI({ baseURL, apiKey: "wrong", maxRetries: 0 }).chat.completions.create({ model, messages });
} catch (error) {
  found.refusal = [error.constructor.name, error.status, error.code];
}
console.log(JSON.stringify(found));
