// The page around the checks: takes a document and keys, says yes or exactly why not. Words that come from a
// document are text nodes. Opened from a server it offers that server's keys; saved, it asks nobody.

const at = (id) => document.getElementById(id);
const isServed = /^https?:$/.test(location.protocol);
let served = null; // the text of this server's keys

function make(tag, text, className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

function show(isGood, title, parts) {
  const verdict = at("verdict");
  verdict.className = `verdict ${isGood ? "good" : "bad"}`;
  verdict.replaceChildren(make("h2", title), ...parts);
  verdict.focus({ preventScroll: true });
  verdict.scrollIntoView({ block: "nearest" });
}

const count = (number) => new Intl.NumberFormat(navigator.language).format(number);
const percent = (ppm) => new Intl.NumberFormat(navigator.language, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 4 }).format(Number(ppm) / 1e6);
const moment = (us) => new Intl.DateTimeFormat(navigator.language, { dateStyle: "long", timeStyle: "medium", timeZone: "UTC" }).format(new Date(Number(us / 1000n))) + " UTC";

const OUTCOMES = { complete: "complete", cut: "cut short", failed: "failed" };
const VERDICTS = { paid: "paid", free: "free of charge", prohibited: "used against its creator’s word, paid nothing" };

// What was proven, in words for people: sentences, then facts.
const TOLD = {
  receipt({ facts, lines, logged }, signer) {
    const items = [`It was signed by ${signer}, and not a letter of it has changed since.`];
    if (logged) items.push(inLog("It stands", logged));
    for (const line of lines) items.push(`The answer drew on ${line.get("work")}: ${percent(line.get("ppm"))} of it, ${VERDICTS[line.get("verdict")] ?? line.get("verdict")}.`);
    return [items, [
      ["Answer", facts.get("rid")], ["Given", moment(facts.get("iat"))], ["By the model", facts.get("mdl")], ["To the app", facts.get("app")],
      ["The answer was", OUTCOMES[facts.get("res")] ?? facts.get("res")],
      ["Tokens", `${count(facts.get("in"))} in, ${count(facts.get("out"))} out${facts.get("est") ? " (estimated)" : ""}`],
      ...(facts.get("img") ? [["Images", count(facts.get("img"))]] : []),
      ...(facts.get("ms") ? [["Sound or video", `${count(facts.get("ms"))} ms`]] : []),
      ["Works credited", count(facts.get("n"))], ["Nobody’s part", percent(facts.get("unat"))],
    ]];
  },
  statement({ facts, lines, logged, exponent, count: creators }, signer) {
    const money = (name) => `${amountOf(facts.get(name), exponent)} ${facts.get("currency")}`;
    return [[
      `${signer} signed the period that it belongs to, and not a letter of it has changed since.`,
      `Its ${count(lines.length)} lines add up to what was earned, and what was moved leads from the opening to the closing balance.`,
      `${facts.get("name") ?? facts.get("creator")} stands once among the period’s ${count(creators)} creators, with this very sum: nobody was counted twice to make another’s part smaller.`,
      inLog("The period stands", logged),
    ], [
      ["Statement", facts.get("id")], ["Of", facts.get("name") ?? facts.get("creator")], ["Period", facts.get("period")],
      ["Opening balance", money("opening_grains")], ["Earned", money("earned_grains")], ["Closing balance", money("closing_grains")],
    ]];
  },
  charge({ facts, logged, count: apps }, signer) {
    return [[
      `${signer} signed the period that it belongs to, and not a letter of it has changed since.`,
      `${facts.get("app")} stands once among the period’s ${count(apps)} apps, with this very sum.`,
      inLog("The period stands", logged),
    ], [
      ["App", facts.get("app")], ["Period", facts.get("period")], ["Charged", `${count(facts.get("charged_grains"))} grains of ${facts.get("currency")}`],
    ]];
  },
  change({ facts, logged }, signer) {
    return [[
      `${signer} signed the log that holds it, and not a letter of it has changed since.`,
      `It is change ${count(facts.get("seq"))} of the registry: every receipt that quotes that number, or a later one, came after it.`,
      inLog("Its batch stands", logged),
    ], [["Change", facts.get("kind")], ["Work", facts.get("work") || "none"], ["By", facts.get("actor")]]];
  },
  manifest({ facts, logged }, signer) {
    return [[
      `${signer} signed it, and not a letter of it has changed since.`,
      "What apps were charged is what creators, escrow, the common account and the platform got, to the last digit.",
      inLog("It stands", logged),
    ], [["Period", facts.get("period")], ["Currency", facts.get("cur")], ["Answers", count(facts.get("totals").get("events") ?? 0n)]]];
  },
};

const inLog = (what, logged) => `${what} in the public log: entry ${count(logged.index + 1n)} of the ${count(logged.size)} that the log had when this was made.`;

function told(found, keys, more) {
  const [items, rows] = TOLD[found.kind](found, keys.origin);
  if (more.startsWith("uses:")) items.push("The receipts behind it are all that its lines count, no more and no fewer, each in the log once.");
  if (more.startsWith("next:")) items.push("Its period follows the one before with nothing in between, and a statement opens with what the one before closed with.");
  const list = document.createElement("ul");
  list.append(...items.map((item) => make("li", item)));
  const table = document.createElement("dl");
  for (const [name, value] of rows) table.append(make("dt", name), make("dd", String(value)));
  return [list, table];
}

async function keysText() {
  if (at("whose-ours").checked && served !== null) return served;
  const [file] = at("keys").files;
  if (!file) throw new Invalid("no keys were chosen: choose the file that was saved from /.well-known/endcredits.json");
  return file.text();
}

async function run() {
  const [file] = at("file").files;
  try {
    const text = at("text").value.trim() || (file ? await file.text() : "");
    if (!text) throw new Invalid("there is nothing to check: choose a file or paste its text");
    const keys = await keysOf(await keysText());
    const found = await checkFile(text, keys);
    const [beside] = at("beside").files;
    const more = beside ? await checkBeside(text, await beside.text(), keys) : "";
    show(true, "It holds", told(found, keys, more));
  } catch (error) {
    if (!(error instanceof Invalid)) console.warn(error);
    const why = error instanceof Invalid ? error.message : "this browser could not check it";
    show(false, "It does not hold", [make("p", `${why[0].toUpperCase()}${why.slice(1)}.`)]);
  }
}

async function ableToCheck() {
  try {
    await crypto.subtle.importKey("raw", new Uint8Array(32), { name: "Ed25519" }, false, ["verify"]);
    return "";
  } catch {
    if (!globalThis.isSecureContext) return "Browsers check signatures only on secure pages. Open this page with https, or save it and open it from your disk.";
    return "This browser is too old to check these signatures. Firefox from 129, Chrome and Edge from 137 and Safari from 17 can.";
  }
}

async function begin() {
  const trouble = await ableToCheck();
  at("unable").textContent = trouble;
  at("unable").hidden = !trouble;
  if (!isServed) {
    at("home").removeAttribute("href");
    at("keep").hidden = true; // it is kept already
    return;
  }
  at("keep").href = location.pathname;
  at("keep-keys-holder").hidden = false;
  try {
    const reply = await fetch("/.well-known/endcredits.json");
    served = await reply.text();
    const keys = await keysOf(served);
    at("ours-said").textContent = `The keys of this server, ${keys.origin}`;
    at("ours").hidden = false;
    at("whose-ours").checked = true;
  } catch {
    served = null;
  }
  const carried = decodeURIComponent(location.hash.slice(1));
  if (carried) {
    at("text").value = carried;
    if (served !== null) await run();
  }
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  void run();
});
at("keys").addEventListener("change", () => (at("whose-theirs").checked = true));
at("file").addEventListener("change", () => (at("text").value = ""));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", () => document.body.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  if (!event.dataTransfer.files.length) return;
  at("file").files = event.dataTransfer.files;
  at("text").value = "";
  void run();
});
void begin();
