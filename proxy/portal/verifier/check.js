// Checks what Endcredits signs, with nothing but this file and a browser (or Node): WebCrypto does Ed25519 and
// SHA-256. A second implementation of proxy/receipts/verify.py, told apart by no file: both say yes to the same
// ones, and why not in the same words. docs/receipts.md is the normative text. Nothing here fetches anything.

export class Invalid extends Error {}

const HASH_BYTES = 32, SALT_BYTES = 16, PATH_MAX = 64, NOTE_BYTES_MAX = 1 << 20;
const SIZE_MAX = 1n << 62n;
const PROOF_HEADER = "c2sp.org/tlog-proof@v1", RECEIPT_TYPE = "endcredits-receipt+jws";
const encoder = new TextEncoder();

export const utf8 = (text) => encoder.encode(text);

function utf8Checked(text, what) {
  if (/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/.test(text)) throw new Invalid(`${what} is no text`);
  return utf8(text);
}

export const joined = (...parts) => {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) whole.set(part, place), (place += part.length);
  return whole;
};

export const same = (one, other) => one.length === other.length && one.every((byte, place) => byte === other[place]);
export const hex = (raw) => Array.from(raw, (byte) => byte.toString(16).padStart(2, "0")).join("");
export const sha256 = async (raw) => new Uint8Array(await crypto.subtle.digest("SHA-256", raw));

// -- bytes and their one spelling

export const b64 = (raw) => btoa(Array.from(raw, (byte) => String.fromCharCode(byte)).join(""));
export const b64url = (raw) => b64(raw).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

const rawOf = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

export function fromB64(text, what) {
  if (typeof text !== "string" || !/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.length % 4) throw new Invalid(`${what} is not base64`);
  const raw = rawOf(text);
  if (b64(raw) !== text) throw new Invalid(`${what} is spelt with stray bits`);
  return raw;
}

export function fromB64url(text, what) {
  if (typeof text !== "string" || !/^[A-Za-z0-9_+/-]*$/.test(text) || text.length % 4 === 1) throw new Invalid(`${what} is not base64url`);
  const raw = rawOf(text.replaceAll("-", "+").replaceAll("_", "/") + "=".repeat((4 - (text.length % 4)) % 4));
  if (b64url(raw) !== text) throw new Invalid(`${what} is spelt with stray bits`);
  return raw;
}

// -- JSON whose numbers are integers of any size: JSON.parse would round what is larger than 2^53

const TOKEN = /[ \t\n\r]*(?:([{}[\]:,])|("(?:[^"\\\u0000-\u001f]|\\.)*")|(-?(?:0|[1-9]\d*))(?![\d.eE])|(true|false|null))/y;
const DEPTH_MAX = 200;

export function parse(text) {
  TOKEN.lastIndex = 0;
  let token = null;
  const next = () => {
    const begun = TOKEN.lastIndex;
    token = TOKEN.exec(text);
    if (!token) {
      TOKEN.lastIndex = begun;
      throw new SyntaxError("no JSON");
    }
    return token;
  };
  const value = (depth) => {
    if (depth > DEPTH_MAX) throw new SyntaxError("too deep");
    const [, sign, string, number, word] = token;
    if (string !== undefined) return JSON.parse(string);
    if (number !== undefined) return BigInt(number);
    if (word !== undefined) return { true: true, false: false, null: null }[word];
    if (sign === "[") {
      const found = [];
      if (next()[1] === "]") return found;
      for (;;) {
        found.push(value(depth + 1));
        const after = next()[1];
        if (after === "]") return found;
        if (after !== ",") throw new SyntaxError("no list");
        next();
      }
    }
    if (sign === "{") {
      const found = new Map();
      if (next()[1] === "}") return found;
      for (;;) {
        if (token[2] === undefined) throw new SyntaxError("no name");
        const name = JSON.parse(token[2]);
        if (next()[1] !== ":") throw new SyntaxError("no colon");
        next();
        found.set(name, value(depth + 1));
        const after = next()[1];
        if (after === "}") return found;
        if (after !== ",") throw new SyntaxError("no object");
        next();
      }
    }
    throw new SyntaxError("no value");
  };
  next();
  const found = value(0);
  if (/[^ \t\n\r]/.test(text.slice(TOKEN.lastIndex))) throw new SyntaxError("more than one value");
  return found;
}

const byCodePoint = (one, other) => {
  const [a, b] = [Array.from(one), Array.from(other)];
  for (let place = 0; place < Math.min(a.length, b.length); place++) {
    if (a[place] !== b[place]) return a[place].codePointAt(0) - b[place].codePointAt(0);
  }
  return a.length - b.length;
};

// The one spelling of a value of strings, integers, lists and objects: RFC 8785.
export function canonical(value) {
  if (value instanceof Map) {
    const names = [...value.keys()].sort(byCodePoint);
    return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value.get(name))}`).join(",")}}`;
  }
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  return typeof value === "bigint" ? String(value) : JSON.stringify(value);
}

export function fromCanonical(raw, what) {
  let value = null, text = "";
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
    value = parse(text);
  } catch {
    throw new Invalid(`${what} is no JSON`);
  }
  if (!(value instanceof Map) || canonical(value) !== text) throw new Invalid(`${what} is not spelt canonically`);
  return value;
}

// -- the log: RFC 6962

export const leafHash = (entry) => sha256(joined(Uint8Array.of(0), entry));
export const nodeHash = (left, right) => sha256(joined(Uint8Array.of(1), left, right));
export const receiptEntry = async (payload) => joined(Uint8Array.of(1), await sha256(payload));
export const manifestEntry = async (payload) => joined(Uint8Array.of(2), await sha256(payload));

function* climb(place, last, path) {
  for (const sibling of path) {
    if (!last) throw new Invalid("the path is too long");
    const isLeft = Boolean(place & 1n) || place === last;
    yield [sibling, isLeft];
    // The last of an uneven row goes up alone.
    while (isLeft && !(place & 1n) && place) (place >>= 1n), (last >>= 1n);
    (place >>= 1n), (last >>= 1n);
  }
  if (last) throw new Invalid("the path is too short");
}

export async function includedRoot(leaf, index, size, path) {
  if (!(0n <= index && index < size && size <= SIZE_MAX)) throw new Invalid(`there is no entry ${index} in a log of ${size}`);
  if (path.some((one) => one.length !== HASH_BYTES)) throw new Invalid("a hash of the path has another length");
  let at = leaf;
  for (const [sibling, isLeft] of climb(index, size - 1n, path)) at = isLeft ? await nodeHash(sibling, at) : await nodeHash(at, sibling);
  return at;
}

// -- signatures: notes, checkpoints, receipts

async function holds(publicKey, signature, signed, what) {
  let isGood = false;
  try {
    const key = await crypto.subtle.importKey("raw", publicKey, { name: "Ed25519" }, false, ["verify"]);
    isGood = await crypto.subtle.verify({ name: "Ed25519" }, key, signature, signed);
  } catch (error) {
    if (error.name === "NotSupportedError") throw error;
  }
  if (!isGood) throw new Invalid(`${what} does not hold`);
}

export const keyIdOf = async (name, publicKey) => (await sha256(joined(utf8(`${name}\n`), Uint8Array.of(1), publicKey))).slice(0, 4);

async function verifierKey(text) {
  const written = String(text).trim();
  const [, name, keyId, encoded] = /^([^+]*)(?:\+([^+]*))?(?:\+([^]*))?$/.exec(written) ?? [];
  const raw = fromB64(encoded ?? "", "the key");
  if (raw[0] !== 1 || raw.length !== 1 + HASH_BYTES) throw new Invalid("the key is not Ed25519");
  const key = { name, keyId: await keyIdOf(name, raw.slice(1)), public: raw.slice(1) };
  if (!name || hex(key.keyId) !== keyId) throw new Invalid("the key's name and number do not belong together");
  return key;
}

export async function openNote(note, keys) {
  if (utf8Checked(note, "the note").length > NOTE_BYTES_MAX) throw new Invalid("the note is too large");
  if (/[\u0000-\u0009\u000b-\u001f]/.test(note)) throw new Invalid("the note holds control characters");
  const cut = note.lastIndexOf("\n\n");
  if (cut < 1 || !note.endsWith("\n") || note.length === cut + 2) throw new Invalid("this is no signed note");
  const text = `${note.slice(0, cut)}\n`;
  let isSigned = false;
  for (const line of note.slice(cut + 2, -1).split("\n")) {
    const [dash = "", name = "", encoded = ""] = line.split(" ");
    if (dash !== "—" || line !== `— ${name} ${encoded}` || !name) throw new Invalid("a signature line is malformed");
    const raw = fromB64(encoded, "a signature");
    for (const key of keys) {
      if (key.name === name && same(key.keyId, raw.slice(0, 4))) {
        await holds(key.public, raw.slice(4), utf8(text), `${name}'s signature`);
        isSigned = true;
      }
    }
  }
  if (!isSigned) throw new Invalid("no key that is known here has signed this note");
  return text;
}

function number(text, what) {
  if (!/^(?:0|[1-9]\d{0,18})$/.test(text)) throw new Invalid(`${what} is no number`);
  return BigInt(text);
}

export async function openCheckpoint(note, keys, origin = "") {
  const lines = (await openNote(note, keys)).split("\n");
  if (lines.length < 4 || lines.slice(0, -1).includes("")) throw new Invalid("the checkpoint has too few lines");
  const size = number(lines[1], "the checkpoint's size");
  const root = fromB64(lines[2], "the checkpoint's root");
  if (root.length !== HASH_BYTES || size > SIZE_MAX) throw new Invalid("the checkpoint's root or size cannot be one");
  if (origin && lines[0] !== origin) throw new Invalid(`the checkpoint is of the log '${lines[0]}', not of '${origin}'`);
  return { origin: lines[0], size, root };
}

export async function openJws(token, keys, typ = RECEIPT_TYPE) {
  const pieces = token.split(".");
  if (pieces.length !== 3) throw new Invalid("this is no compact JWS");
  const header = fromCanonical(fromB64url(pieces[0], "the header"), "the header");
  const kid = header.get("kid");
  const isOurs = header.size === 3 && header.get("alg") === "EdDSA" && header.get("typ") === typ && typeof kid === "string";
  if (!isOurs) throw new Invalid(`the header is not that of ${typ}`);
  if (!Object.hasOwn(keys, kid)) throw new Invalid(`the key '${kid}' is not known here`);
  const signature = fromB64url(pieces[2], "the signature");
  await holds(keys[kid], signature, utf8Checked(`${pieces[0]}.${pieces[1]}`, "the payload"), "the signature");
  return fromB64url(pieces[1], "the payload");
}

export async function checkLine(payload, opened) {
  const said = fromCanonical(payload, "the receipt");
  const lacks = () => new Invalid("the line or the receipt lacks a member");
  if (!(opened instanceof Map)) throw lacks();
  for (const name of ["ppm", "verdict", "work", "index", "count", "path", "salt"]) if (!opened.has(name)) throw lacks();
  const path = opened.get("path");
  if (!Array.isArray(path)) throw lacks();
  const line = new Map(["ppm", "verdict", "work"].map((name) => [name, opened.get(name)]));
  const [index, count] = [opened.get("index"), opened.get("count")];
  if (typeof opened.get("salt") !== "string" || typeof said.get("lroot") !== "string") throw lacks();
  const salt = fromB64url(opened.get("salt"), "the salt");
  const root = fromB64url(said.get("lroot"), "the receipt's root");
  if (typeof index !== "bigint" || typeof count !== "bigint" || count !== said.get("n") || salt.length !== SALT_BYTES) {
    throw new Invalid("the line's place is not one of this receipt's");
  }
  const hashes = path.map((one) => fromB64url(String(one), "the path"));
  const leaf = await leafHash(joined(salt, utf8(canonical(line))));
  if (!same(await includedRoot(leaf, index, count, hashes), root)) throw new Invalid("the receipt does not hold this line");
  return said;
}

export async function checkProof(proof, entry, keys, origin = "") {
  const cut = proof.indexOf("\n\n");
  const lines = (cut < 0 ? proof : proof.slice(0, cut)).split("\n");
  if (cut < 0 || lines[0] !== PROOF_HEADER) throw new Invalid(`this does not begin with ${PROOF_HEADER}`);
  if (lines.length < 2 || !lines[1].startsWith("index ") || lines.length > PATH_MAX + 2) throw new Invalid("the proof does not say an index and a path");
  const path = lines.slice(2).map((line) => fromB64(line, "the path"));
  const checkpoint = await openCheckpoint(proof.slice(cut + 2), keys, origin);
  const index = number(lines[1].slice("index ".length), "the index");
  if (!same(await includedRoot(await leafHash(entry), index, checkpoint.size, path), checkpoint.root)) throw new Invalid("the log does not hold this at that place");
  return { ...checkpoint, index };
}

// -- files

// What an operator's /.well-known/endcredits.json says, saved and kept: whose signatures count.
export async function keysOf(text) {
  const trouble = () => new Invalid("these are not the keys of /.well-known/endcredits.json");
  let said = null;
  try {
    said = JSON.parse(text);
  } catch {
    throw trouble();
  }
  const origin = said?.log?.origin;
  if (typeof origin !== "string" || !Array.isArray(said.keys)) throw trouble();
  const keys = { origin, kids: Object.create(null), notes: [] };
  for (const key of said.keys) {
    if (typeof key?.kid !== "string" || typeof key.verifier !== "string") throw trouble();
    const raw = fromB64url(key.x, "a key");
    const note = await verifierKey(key.verifier);
    if (note.name !== origin || !same(note.public, raw)) throw new Invalid("a key is written in two ways that do not agree");
    keys.kids[key.kid] = raw;
    keys.notes.push(note);
  }
  return keys;
}

// What a file proves: {kind, facts, proven}; proven has a sentence for each thing, as verify.py says it.
export async function checkFile(text, keys) {
  const trimmed = text.trim();
  const trouble = () => new Invalid("this is neither a receipt nor the JSON of one");
  let said = new Map([["receipt", trimmed]]);
  if (trimmed.startsWith("{")) {
    try {
      said = parse(trimmed);
    } catch {
      throw trouble();
    }
  }
  const [token, shown] = [said.get("receipt"), said.get("lines") ?? []];
  if (typeof token !== "string" || !Array.isArray(shown)) throw new Invalid("there is no receipt in it");
  const payload = await openJws(token, keys.kids);
  const facts = fromCanonical(payload, "the receipt");
  const proven = [`signed: ${facts.get("rid")}, an answer of ${facts.get("mdl")} to ${facts.get("app")}`];
  const proof = said.get("proof") ?? null;
  let checkpoint = null;
  if (proof !== null) {
    checkpoint = await checkProof(String(proof), await receiptEntry(payload), keys.notes, keys.origin);
    proven.push(`logged: it is one of the ${checkpoint.size} entries of ${checkpoint.origin}`);
  }
  for (const opened of shown) {
    await checkLine(payload, opened);
    proven.push(`drew on ${opened.get("work")}: ${opened.get("ppm")} ppm of it, ${opened.get("verdict")}`);
  }
  return { kind: "receipt", facts, proven, lines: shown, logged: checkpoint };
}
