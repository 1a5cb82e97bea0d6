// The playground: asks through the proxy as the signed-in app, and shows whose words an answer draws on while
// it is written. Whatever a model says becomes text nodes and nothing else; so do titles and names. Offsets
// from the server count code points, so texts are cut as arrays of them.
//
// Sentences are neutral until something is known: events named `endcredits` say what the sentences so far
// would owe, and the field in the answer's last chunk says what it owes. The field is what counts.

const COLOURS = 8; // works with a colour of their own; style sheet: .c1 to .c8, and .c9 for the rest
const RECEIPT_TRIES = 40; // shares that are late come within seconds; we look again for half a minute
const RECEIPT_PAUSE_MS = 750;
const KINDS = {
  verbatim: "Word for word",
  restated: "Said in other words",
  grounded: "Stood in the question",
  cited: "Named as a source",
};

const root = document.getElementById("playground");
const at = (id) => document.getElementById(id);
const percent = new Intl.NumberFormat(navigator.language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const share = (ppm) => percent.format(ppm / 1e6);
const messages = []; // what was said so far, as the next request sends it
let answering = null; // the AbortController of the answer under way

function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

// One answer: its text, the stretches that are some work's, and how both are drawn.
class Answer {
  constructor(place) {
    this.place = place;
    this.text = "";
    this.slots = new Map(); // work -> number, in the order in which works appear
    this.works = new Map(); // work -> what is known of it
    this.drawn = "";
    this.tail = document.createTextNode("");
    this.place.append(this.tail);
  }

  said(text) {
    this.text += text;
    this.tail.appendData(text);
  }

  slotOf(work) {
    if (!this.slots.has(work)) this.slots.set(work, this.slots.size + 1);
    return this.slots.get(work);
  }

  // Draw the text with these works' stretches. What is drawn already stays, so that no focus is lost.
  colour(works) {
    for (const work of works) {
      const known = this.works.get(work.work);
      this.works.set(work.work, { ...work, evidence: withPassages(work.evidence, known?.evidence) });
    }
    const letters = Array.from(this.text);
    const pieces = stretches(letters, works);
    for (const piece of pieces) if (piece.work) this.slotOf(piece.work);
    const upTo = pieces.length && !pieces.at(-1).work ? pieces.at(-1).start : letters.length;
    const shape = pieces.filter((piece) => piece.work).map((piece) => [piece.start, piece.end, piece.work]);
    const drawn = JSON.stringify(shape);
    if (drawn === this.drawn) return;
    const before = new Set((this.drawn ? JSON.parse(this.drawn) : []).map(([start, , work]) => `${start} ${work}`));
    this.drawn = drawn;
    hidePassage();
    const nodes = [];
    for (const piece of pieces) {
      if (piece.start >= upTo) break;
      const text = letters.slice(piece.start, piece.end).join("");
      nodes.push(...(piece.work ? this.stretch(piece, text, before) : [text]));
    }
    this.tail = document.createTextNode(letters.slice(upTo).join(""));
    this.place.replaceChildren(...nodes, this.tail);
  }

  // Learn passages of stretches that are drawn already; what is owed stays as the field says.
  learn(works) {
    for (const work of works) {
      const known = this.works.get(work.work);
      if (known) this.works.set(work.work, { ...known, evidence: withPassages(known.evidence, work.evidence) });
    }
  }

  stretch(piece, text, before) {
    const slot = this.slotOf(piece.work);
    const body = text.trimEnd();
    const said = make("span", `said ${colourOf(slot)}`, body);
    if (!before.has(`${piece.start} ${piece.work}`)) said.classList.add("new");
    const mark = make("button", `mark ${colourOf(slot)}`, String(slot));
    mark.type = "button";
    mark.setAttribute("aria-expanded", "false");
    mark.setAttribute("aria-controls", "passage");
    mark.setAttribute("aria-label", `Source ${slot}: ${this.works.get(piece.work).title}`);
    const show = () => showPassage(mark, this.works.get(piece.work), piece, slot);
    for (const one of [said, mark]) {
      one.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && show());
      one.addEventListener("pointerleave", hidePassageSoon);
    }
    mark.addEventListener("focus", show);
    mark.addEventListener("blur", hidePassageSoon);
    mark.addEventListener("click", show);
    said.addEventListener("click", show);
    return [said, mark, text.slice(body.length)];
  }
}

// "LicenseRef-All-Rights-Reserved" is how machines write it.
const licenceOf = (work) => (work.licence ?? "").replace(/^LicenseRef-(.)(.*)$/, (_, first, rest) => first.toUpperCase() + rest.replaceAll("-", " ").toLowerCase());
const colourOf = (slot) => `c${Math.min(slot, COLOURS + 1)}`;

// What was shown of a passage stays known when the same stretch comes again without it.
function withPassages(evidence = [], known = []) {
  return evidence.map((piece) => piece.passage !== undefined ? piece
    : { ...piece, passage: known.find((one) => one.output[0] < piece.output[1] && piece.output[0] < one.output[1])?.passage });
}

// Cut a text where its credit changes; where two works claim the same words, the one listed first has them.
function stretches(letters, works) {
  const owner = new Array(letters.length).fill(null);
  for (const work of [...works].reverse()) {
    for (const piece of work.evidence ?? []) {
      for (let place = Math.max(0, piece.output[0]); place < Math.min(piece.output[1], letters.length); place++) owner[place] = { work: work.work, piece };
    }
  }
  // Signs and spaces that nobody claims belong to what stands before them.
  for (let place = 1; place < letters.length; place++) {
    if (!owner[place] && owner[place - 1] && !/[\p{L}\p{N}]/u.test(letters[place]) && letters[place] !== "\n") owner[place] = owner[place - 1];
  }
  // A word or two of a stretch beyond a paragraph's end belong to it by chance, and would only be in the way.
  for (let place = letters.length - 1, from = letters.length; place >= 0; place--) {
    if (letters[place] !== "\n" && place) continue;
    trim(letters, owner, place ? place + 1 : 0, from);
    from = place;
  }
  const found = [];
  let start = 0;
  for (let place = 1; place <= letters.length; place++) {
    if (place === letters.length || owner[place]?.piece !== owner[start]?.piece) {
      found.push({ start, end: place, work: owner[start]?.work, evidence: owner[start]?.piece });
      start = place;
    }
  }
  return found;
}

// Take from a line its first or last words, where they are the rest of another line's stretch and under three.
function trim(letters, owner, from, to) {
  for (const [edge, step, beyond] of [[from, 1, from - 1], [to - 1, -1, to]]) {
    const piece = owner[edge]?.piece;
    if (!piece || owner[beyond - (step > 0 ? 1 : -1)]?.piece !== piece) continue;
    let place = edge;
    while (place >= from && place < to && owner[place]?.piece === piece) place += step;
    const rest = step > 0 ? letters.slice(edge, place) : letters.slice(place + 1, edge + 1);
    if (rest.join("").trim().split(/\s+/).length > 2) continue;
    for (let back = edge; back !== place; back += step) owner[back] = null;
  }
}

// -- the passage beside a stretch: reached by pointer, touch and keyboard; Escape puts it away

const passage = at("passage");
let shownFor = null;
let hiding = 0;

function showPassage(mark, work, piece, slot) {
  clearTimeout(hiding);
  if (shownFor && shownFor !== mark) shownFor.setAttribute("aria-expanded", "false");
  shownFor = mark;
  mark.setAttribute("aria-expanded", "true");
  const known = work.evidence?.find((one) => one.output[0] < piece.end && piece.start < one.output[1]);
  const kind = KINDS[known?.kind] ?? "Credited";
  const parts = [
    make("p", "passage-title", work.title),
    make("p", "small soft", [work.creators.join(", "), licenceOf(work)].filter(Boolean).join(" · ")),
  ];
  if (known?.passage) parts.push(make("blockquote", "", known.passage));
  const whole = new Intl.NumberFormat(navigator.language, { style: "percent" });
  const sure = known?.score === undefined ? "" : known.score > 0.99 ? `, more than ${whole.format(0.99)} sure` : `, ${whole.format(known.score)} sure`;
  let why = `${kind}${sure}.`;
  if (!known?.passage) why += " Its creator shows no passages of it.";
  if (work.verdict === "prohibited") why += " Its creator does not allow this use: it is paid nothing and the operator is told.";
  parts.push(make("p", "why", why));
  passage.className = `passage ${colourOf(slot)}`;
  passage.replaceChildren(...parts);
  passage.hidden = false;
  requestAnimationFrame(() => place(mark)); // when the browser has scrolled to what is focused
}

function place(mark) {
  const box = mark.getBoundingClientRect();
  const left = Math.max(12, Math.min(box.left, document.documentElement.clientWidth - passage.offsetWidth - 12));
  const below = box.bottom + passage.offsetHeight + 12 < innerHeight || box.top < passage.offsetHeight + 12;
  passage.style.left = `${left + scrollX - root.offsetLeft}px`;
  passage.style.top = `${(below ? box.bottom + 8 : box.top - passage.offsetHeight - 8) + scrollY - root.offsetTop}px`;
}

function hidePassage() {
  clearTimeout(hiding);
  shownFor?.setAttribute("aria-expanded", "false");
  shownFor = null;
  passage.hidden = true;
}

function hidePassageSoon() {
  clearTimeout(hiding);
  hiding = setTimeout(hidePassage, 250); // long enough to move into it
}

passage.addEventListener("pointerenter", () => clearTimeout(hiding));
passage.addEventListener("pointerleave", hidePassageSoon);
document.addEventListener("keydown", (event) => event.key === "Escape" && hidePassage());

// -- the credits

function rollOf(field, answer) {
  const rolling = make("section", "rolling new");
  rolling.append(make("h2", "", "Credits"));
  const works = field.works ?? [];
  for (const work of works) answer.slotOf(work.work);
  rolling.append(barOf(works, answer, field.unattributed_ppm));
  const list = make("ol", "credits");
  for (const work of works) {
    const slot = answer.slotOf(work.work);
    const name = /^https?:\/\//.test(work.url ?? "") ? make("a", "title", work.title ?? work.work) : make("span", "title", work.title ?? work.work);
    if (name.tagName === "A") {
      name.href = work.url;
      name.rel = "noopener noreferrer nofollow";
    }
    const by = [(work.creators ?? []).join(", "), licenceOf(work), work.verdict === "prohibited" ? "used against its creator’s word: paid nothing" : ""];
    list.append(make("li", "", make("span", "part", share(work.share_ppm), " ", make("span", `mark ${colourOf(slot)}`, String(slot))),
      make("span", "", name, make("span", "by", by.filter(Boolean).join(" · ")))));
  }
  const listed = works.reduce((sum, work) => sum + work.share_ppm, 0);
  const others = 1e6 - listed - field.unattributed_ppm;
  if (others > 0) list.append(nobody(others, "Other works", "not listed: x-attribution-top is smaller"));
  list.append(nobody(field.unattributed_ppm, works.length ? "Nobody’s" : "Nobody’s: no registered work is in this answer", "what no registered work accounts for"));
  rolling.append(list);
  const receipt = make("p", "receipt", "Receipt ", make("span", "id", field.id));
  if (field.receipt) {
    const link = make("a", "", "check its signature");
    link.href = `/portal/verify#${field.receipt}`;
    receipt.append(" · ", link);
  }
  rolling.append(receipt);
  return rolling;
}

function nobody(ppm, title, why) {
  return make("li", "nobody", make("span", "part", share(ppm)), make("span", "", make("span", "title", title), make("span", "by", why)));
}

function barOf(works, answer, unattributed) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1000 8");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "bar");
  svg.setAttribute("aria-hidden", "true");
  let x = 0;
  for (const [ppm, name] of [...works.map((work) => [work.share_ppm, colourOf(answer.slotOf(work.work))]), [unattributed, "rest"]]) {
    const part = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    part.setAttribute("class", name);
    part.setAttribute("x", x / 1000);
    part.setAttribute("width", ppm / 1000);
    part.setAttribute("height", "8");
    svg.append(part);
    x += ppm;
  }
  return svg;
}

// Shares that were not in the answer (late, deferred, `headers`) are at its id.
async function settled(id, signal) {
  for (let tries = 0; tries < RECEIPT_TRIES; tries++) {
    const reply = await fetch(root.dataset.receipts + id, { signal });
    if (reply.status === 200) return await reply.json();
    if (reply.status !== 202 && reply.status !== 404) break;
    await new Promise((done) => setTimeout(done, RECEIPT_PAUSE_MS));
  }
  return null;
}

// -- asking

// Events of a stream: {name, data} each.
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let kept = "";
  for (;;) {
    const { value, done } = await reader.read();
    kept += done ? "\n\n" : value;
    const parts = kept.split(/\r\n\r\n|\n\n|\r\r(?!\n)/);
    kept = parts.pop();
    for (const part of parts) {
      const event = { name: "message", data: [] };
      for (const line of part.split(/\r\n|\n|\r/)) {
        const [, field, value_] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
        if (field === "event") event.name = value_;
        if (field === "data") event.data.push(value_);
      }
      if (event.data.length) yield { name: event.name, data: event.data.join("\n") };
    }
    if (done) return;
  }
}

function wishes() {
  const sent = {};
  for (const one of at("switches").elements) {
    if (one.name.startsWith("x-attribution") && one.value.trim() !== "") sent[one.name] = one.value.trim();
  }
  return sent;
}

const bodyFor = (question) => ({ model: at("model").value, messages: [...messages, { role: "user", content: question }], stream: true });

const manner = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

function say(text, isBad = false) {
  at("status").textContent = text;
  at("status").classList.toggle("bad", isBad);
}

async function ask(question) {
  answering = new AbortController();
  const { signal } = answering;
  at("hello").hidden = true;
  busy(true);
  say("Answering…");
  const place = make("div", "answer writing");
  const turn = make("li", "turn", make("p", "question", question), place);
  at("turns").append(turn);
  turn.scrollIntoView({ block: "start", behavior: manner() });
  const answer = new Answer(place);
  const sent = bodyFor(question);
  const wanted = wishes();
  try {
    const began = performance.now();
    const reply = await fetch(root.dataset.answers, {
      method: "POST",
      headers: { "content-type": "application/json", "x-csrf-token": root.dataset.token, ...wanted },
      body: JSON.stringify(sent),
      signal,
    });
    if (!reply.ok) throw new Error(await troubleIn(reply));
    const id = reply.headers.get("x-attribution-id");
    let field = null, first = 0, last = 0;
    for await (const { name, data } of eventsOf(reply.body)) {
      if (name === "endcredits") {
        const found = JSON.parse(data);
        if (field?.works?.some((work) => work.evidence)) answer.learn(found.works);
        else answer.colour(found.works);
        continue;
      }
      if (data === "[DONE]") continue;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message ?? "the backend broke off");
      const text = chunk.choices?.[0]?.delta?.content;
      if (typeof text === "string" && text) {
        last = performance.now();
        first ||= last;
        answer.said(text);
      }
      if (chunk.attribution) {
        field = { ...chunk.attribution, waited: performance.now() - last };
        if (field.works?.some((work) => work.evidence)) answer.colour(field.works);
        finish(turn, answer, field, wanted);
      }
    }
    place.classList.remove("writing");
    messages.push(sent.messages.at(-1), { role: "assistant", content: answer.text });
    if (first) turn.append(make("p", "took", tookOf(first - began, field?.waited)));
    if (wanted["x-attribution"] === "off") {
      turn.append(make("p", "receipt", "Credits are hidden, as the request asked. The answer is counted all the same: ", make("span", "id", id)));
      say("The answer is complete; its credits are hidden.");
    } else if (field === null || field.status === "pending") {
      say("The answer is complete; its credits follow.");
      const late = await settled(id, signal);
      if (late) finish(turn, answer, late, wanted);
      else say("The credits have not come yet. They will be under the answer’s id.", true);
    }
  } catch (error) {
    place.classList.remove("writing");
    if (signal.aborted) say("Stopped. What was written until then is counted.");
    else say(`That did not work: ${error.message}`, true);
  } finally {
    answering = null;
    busy(false);
  }
}

function finish(turn, answer, field, wanted) {
  if (field.status !== "settled" || turn.querySelector(".rolling")) return;
  turn.querySelector(".answer").classList.remove("writing");
  turn.querySelector(".answer").after(rollOf(field, answer));
  const count = field.works.length;
  const works = count === 0 ? "No registered work is in it" : count === 1 ? "One work is credited" : `${count} works are credited`;
  say(`The answer is complete. ${works}; ${share(field.unattributed_ppm)} is nobody’s.`);
  turn.querySelector(".rolling").scrollIntoView({ block: "nearest", behavior: manner() });
}

function tookOf(firstMs, waitedMs) {
  const whole = new Intl.NumberFormat(navigator.language, { maximumFractionDigits: 0 });
  const first = `First words after ${whole.format(firstMs)} ms`;
  return waitedMs === undefined ? `${first}.` : `${first}; credits ${whole.format(waitedMs)} ms after the last.`;
}

async function troubleIn(reply) {
  try {
    const said = await reply.json();
    return said.error?.message ?? [said.detail, said.remedy].filter(Boolean).join("; ");
  } catch {
    return `the server answered ${reply.status}`;
  }
}

function busy(is) {
  at("stop").hidden = !is;
  at("send").disabled = is;
  at("anew").hidden = is || !messages.length;
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = at("question").value.trim();
  if (!question || answering) return;
  if (!at("switches").reportValidity()) return;
  at("question").value = "";
  void ask(question);
});
at("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("ask").requestSubmit();
  }
});
at("stop").addEventListener("click", () => {
  answering?.abort();
  at("question").focus();
});
at("anew").addEventListener("click", () => {
  messages.length = 0;
  at("turns").replaceChildren();
  at("hello").hidden = false;
  at("anew").hidden = true;
  say("");
  at("question").focus();
});
for (const example of at("examples").querySelectorAll("button")) {
  example.addEventListener("click", () => {
    at("question").value = example.textContent;
    at("ask").requestSubmit();
  });
}

// -- the same request in code

const inShell = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

const TONGUES = {
  curl(body, headers) {
    const lines = [`curl -N ${location.origin}/v1/chat/completions`, `-H "Authorization: Bearer $OPENAI_API_KEY"`, `-H 'Content-Type: application/json'`];
    for (const [name, value] of Object.entries(headers)) lines.push(`-H ${inShell(`${name}: ${value}`)}`);
    return [...lines, `-d ${inShell(JSON.stringify(body))}`].join(" \\\n  ");
  },
  python(body, headers) {
    return [
      "from openai import OpenAI",
      "",
      `client = OpenAI(base_url=${JSON.stringify(`${location.origin}/v1`)})`,
      "stream = client.chat.completions.create(",
      `    model=${JSON.stringify(body.model)},`,
      `    messages=${JSON.stringify(body.messages, null, 4).replaceAll("\n", "\n    ")},`,
      "    stream=True,",
      ...(Object.keys(headers).length ? [`    extra_headers=${JSON.stringify(headers, null, 4).replaceAll("\n", "\n    ")},`] : []),
      ")",
      "for chunk in stream:",
      "    if chunk.choices:",
      '        print(chunk.choices[0].delta.content or "", end="")',
      '    if credits := (chunk.model_extra or {}).get("attribution"):',
      "        print(credits)",
    ].join("\n");
  },
  node(body, headers) {
    return [
      'import OpenAI from "openai";',
      "",
      `const client = new OpenAI({ baseURL: ${JSON.stringify(`${location.origin}/v1`)} });`,
      "const stream = await client.chat.completions.create(",
      `  ${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")},`,
      ...(Object.keys(headers).length ? [`  { headers: ${JSON.stringify(headers, null, 2).replaceAll("\n", "\n  ")} },`] : []),
      ");",
      "for await (const chunk of stream) {",
      '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");',
      "  if (chunk.attribution) console.log(chunk.attribution);",
      "}",
    ].join("\n");
  },
};

function writeCode() {
  const tongue = document.querySelector("[name=tongue]:checked").value;
  const question = at("question").value.trim() || "Tell me about tides.";
  at("code").firstElementChild.textContent = TONGUES[tongue](bodyFor(question), wishes());
}

document.addEventListener("input", writeCode);
document.addEventListener("change", writeCode);
at("switches").addEventListener("submit", (event) => event.preventDefault());
at("copy").addEventListener("click", async () => {
  await navigator.clipboard.writeText(at("code").textContent);
  at("copy").textContent = "Copied";
  setTimeout(() => (at("copy").textContent = "Copy"), 1500);
});

// -- which models there are

async function begin() {
  busy(false);
  try {
    const reply = await fetch(root.dataset.models);
    if (!reply.ok) throw new Error(await troubleIn(reply));
    const models = (await reply.json()).data.map((one) => String(one.id));
    at("model").replaceChildren(...models.map((id) => new Option(id, id)));
    at("examples").hidden = !models.includes(at("examples").dataset.for);
  } catch (error) {
    say(`The models cannot be listed: ${error.message}`, true);
  }
  writeCode();
}

void begin();
