// Checks what Endcredits signs, with nothing but this file and a browser (or Node): WebCrypto does Ed25519 and
// SHA-256. A second implementation of proxy/receipts/verify.py, told apart by no file: both say yes to the same
// ones, and why not in the same words. docs/receipts.md is the normative text. Nothing here fetches anything.

export class Invalid extends Error {}

const HASH_BYTES = 32, SALT_BYTES = 16, PATH_MAX = 64, NOTE_BYTES_MAX = 1 << 20;
const SIZE_MAX = 1n << 62n;
const SUM_MAX = (1n << 63n) - 1n, PARTS = 4, GRAIN_DIGITS = 7, EXPONENTS = [0, 1, 2, 3, 4];
const PROOF_HEADER = "c2sp.org/tlog-proof@v1", RECEIPT_TYPE = "endcredits-receipt+jws", MANIFEST_TYPE = "endcredits-manifest+jws";
const STATEMENT_FORMAT = "endcredits-statement/1";
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
export const changesEntry = async (batch) => joined(Uint8Array.of(3), await sha256(batch));
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

// -- a period: everybody once, and the sums

// A member that must be there; what lacks one is told by `lacking`.
function need(holder, name) {
  if (!(holder instanceof Map) || !holder.has(name)) throw new TypeError(name);
  return holder.get(name);
}

async function lacking(what, check) {
  try {
    return await check();
  } catch (error) {
    if (error instanceof TypeError) throw new Invalid(`${what} lacks a member`);
    throw error;
  }
}

function integer(value) {
  if (typeof value !== "bigint") throw new Invalid("what should be an integer is none");
  return value;
}

function added(...values) {
  if (values.some((value) => typeof value !== "bigint")) throw new TypeError("no number");
  return values.reduce((sum, value) => sum + value, 0n);
}

function encodedSum(sum) {
  if ([sum.first, sum.last, sum.digest].some((one) => one.length !== HASH_BYTES)) throw new Invalid("a key or hash of the tree has another length");
  if (sum.grains < 0n || sum.grains > SUM_MAX) throw new Invalid("a sum of the tree is out of range");
  return joined(sum.first, sum.last, eightBytes(sum.grains), sum.digest);
}

function eightBytes(number) {
  const raw = new Uint8Array(8);
  new DataView(raw.buffer).setBigUint64(0, number);
  return raw;
}

const sumKey = (kind, ident, part) => sha256(utf8(`endcredits ${kind}|${ident}|${part}`));

async function sumLeaf(key, grains, committed, nonce) {
  if (committed.length !== HASH_BYTES || nonce.length !== 16) throw new Invalid("a leaf's commitment or nonce has another length");
  if (grains < 0n || grains > SUM_MAX) throw new Invalid("a leaf's sum is out of range");
  return { first: key, last: key, grains, digest: await sha256(joined(Uint8Array.of(2), key, eightBytes(grains), committed, nonce)) };
}

async function sumNode(left, right) {
  const order = [left.first, left.last, right.first, right.last].map(hex);
  if (!(order[0] <= order[1] && order[1] < order[2] && order[2] <= order[3])) throw new Invalid("the tree's keys are out of order: somebody may stand in it twice");
  const digest = await sha256(joined(Uint8Array.of(3), encodedSum(left), encodedSum(right)));
  return { first: left.first, last: right.last, grains: left.grains + right.grains, digest };
}

async function summedRoot(leaf, index, size, path) {
  if (!(0n <= index && index < size && size <= SIZE_MAX)) throw new Invalid(`there is no leaf ${index} in a tree of ${size}`);
  let at = leaf;
  for (const [sibling, isLeft] of climb(index, size - 1n, path)) at = isLeft ? await sumNode(sibling, at) : await sumNode(at, sibling);
  encodedSum(at); // its range
  return at;
}

function nodeOf(said) {
  const [first, last, digest] = ["first", "last", "digest"].map((name) => fromB64url(need(said, name), "a node"));
  return { first, last, grains: integer(need(said, "grains")), digest };
}

const sameNode = (one, other) => same(one.first, other.first) && same(one.last, other.last) && one.grains === other.grains && same(one.digest, other.digest);

// What a period's manifest says, and its payload; its sums add up.
async function openManifest(token, keys) {
  const payload = await openJws(token, keys.kids, MANIFEST_TYPE);
  const said = fromCanonical(payload, "the manifest");
  return lacking("the manifest", () => {
    const totals = need(said, "totals");
    const [charged, creators] = [need(totals, "charged_grains"), need(totals, "creators_grains")];
    const out = added(creators, need(totals, "escrow_grains"), need(totals, "platform_grains"), ...need(totals, "common_grains").values());
    if (added(charged, totals.get("released_grains") ?? 0n) !== out) throw new Invalid("the period's money does not add up");
    for (const [name, grains] of [["payees", creators], ["apps", charged]]) {
      const tree = need(said, name);
      if ((tree ? need(tree, "grains") : 0n) !== grains) throw new Invalid(`the period's ${name} have another sum than its totals`);
    }
    return { said, payload };
  });
}

// The sum that a period's tree holds for a party, whose parts stand in it once each.
async function checkLeaves(kind, ident, head, leaves, tree) {
  const committed = await sha256(utf8(canonical(head)));
  return lacking("a leaf or the tree", async () => {
    const [size, root] = [need(tree, "n"), nodeOf(tree)];
    if (!Array.isArray(leaves) || leaves.length !== PARTS) throw new Invalid(`there are not ${PARTS} parts of ${ident}`);
    let total = 0n;
    for (const [part, shown] of leaves.entries()) {
      const nonce = fromB64url(need(shown, "nonce"), "a leaf's nonce");
      const leaf = await sumLeaf(await sumKey(kind, ident, part), integer(need(shown, "grains")), committed, nonce);
      const path = need(shown, "path").map(nodeOf);
      const found = await summedRoot(leaf, integer(need(shown, "index")), integer(size), path);
      if (!sameNode(found, root)) throw new Invalid(`the period does not hold this of ${ident}`);
      total += leaf.grains;
    }
    return total;
  });
}

async function inManifest(shown, keys) {
  const [token, proof] = [shown.get("manifest"), shown.get("proof")];
  if (typeof token !== "string" || typeof proof !== "string") throw new Invalid("the period's manifest, or its place in the log, is not with it");
  const { said, payload } = await openManifest(token, keys);
  const logged = await checkProof(proof, await manifestEntry(payload), keys.notes, keys.origin);
  return { said, logged, proven: [`logged: the period's manifest is one of the ${logged.size} entries of ${logged.origin}`] };
}

// A statement's JSON without amounts written once more for eyes: "x" for "x_grains".
function withoutTexts(value) {
  if (Array.isArray(value)) return value.map(withoutTexts);
  if (!(value instanceof Map)) return value;
  return new Map([...value].filter(([name]) => !value.has(`${name}_grains`)).map(([name, one]) => [name, withoutTexts(one)]));
}

// [amount as text, in grains] for all that a statement writes twice.
function* textsOf(value) {
  if (Array.isArray(value)) for (const one of value) yield* textsOf(one);
  if (!(value instanceof Map)) return;
  for (const [name, one] of value) {
    const grains = value.get(`${name}_grains`) ?? null;
    if (one instanceof Map && grains instanceof Map) for (const [key, text] of one) yield [text, grains.get(key)];
    else if (grains !== null) yield [one, grains];
    else yield* textsOf(one);
  }
}

// An amount in a currency whose minor unit is 10^-exponent, exact, as statements write it.
export function amountOf(grains, exponent) {
  const digits = String(grains < 0n ? -grains : grains).padStart(exponent + GRAIN_DIGITS + 1, "0");
  const point = digits.length - exponent - GRAIN_DIGITS;
  const behind = digits.slice(point, point + exponent) + digits.slice(point + exponent).replace(/0+$/, "");
  return (grains < 0n ? "-" : "") + digits.slice(0, point) + (behind && `.${behind}`);
}

function exponentOf(statement) {
  const pairs = [...textsOf(statement)];
  const found = EXPONENTS.find((exponent) => pairs.every(([text, grains]) => amountOf(integer(grains), exponent) === text));
  if (found === undefined) throw new Invalid("an amount is written in two ways that do not agree");
  return found;
}

const NOT_IN_HEAD = new Set(["format", "lines", "name", "app_names", "basis", "totals"]);
const MOVED = { adjustments: 1n, distributed: 1n, held: -1n, paid: -1n, released: 1n, returned: 1n, withheld: -1n };

// Lines sum to what was earned, movements lead from opening to closing, the manifest holds it once as it is.
async function checkStatement(shown, keys) {
  const { said, logged, proven } = await inManifest(shown, keys);
  const exponent = exponentOf(shown.get("statement"));
  const statement = withoutTexts(shown.get("statement"));
  return lacking("the statement", async () => {
    if (need(statement, "format") !== STATEMENT_FORMAT) throw new Invalid(`this is no ${STATEMENT_FORMAT}`);
    const names = new Map(["app_names", "name"].map((name) => [name, need(statement, name)]));
    const head = new Map([...statement].filter(([name]) => !NOT_IN_HEAD.has(name)));
    const nonce = fromB64url(need(shown, "nonce"), "the nonce");
    head.set("told", b64url(await sha256(joined(nonce, utf8(canonical(names))))));
    if (need(statement, "period") !== need(said, "period") || need(statement, "currency") !== need(said, "cur")) throw new Invalid("the statement is not of this period");
    for (const name of ["basis", "totals"]) {
      if (canonical(need(statement, name)) !== canonical(need(said, name))) throw new Invalid("the statement's rules or totals are not the period's");
    }
    const lines = need(statement, "lines");
    if (hex(await sha256(utf8(canonical(lines)))) !== need(statement, "lines_sha256")) throw new Invalid("the statement's lines are not those that were signed");
    const earned = added(...lines.map((line) => integer(need(line, "net_grains"))));
    const moved = added(...Object.entries(MOVED).map(([name, sign]) => sign * (head.get(`${name}_grains`) ?? 0n)));
    if (moved !== added(...(head.get("moves") ?? []).map((move) => integer(need(move, "grains"))))) throw new Invalid("the statement's movements do not add up");
    const ends = added(need(head, "opening_grains"), earned, moved);
    if (earned !== need(head, "earned_grains") || ends !== need(head, "closing_grains")) throw new Invalid("the statement does not add up");
    const creator = String(need(statement, "creator"));
    const held = await checkLeaves("payee", creator, head, need(shown, "leaves"), need(said, "payees"));
    if (held !== earned) throw new Invalid(`the period holds another sum for ${creator}`);
    const count = need(need(said, "payees"), "n") / BigInt(PARTS);
    return {
      kind: "statement", facts: statement, lines, logged, exponent, count,
      proven: [`signed: what ${creator} earned in ${said.get("period")}, ${earned} grains in ${said.get("cur")}`, ...proven,
        `once: ${creator} stands in the period's ${count} creators once, with this sum`],
    };
  });
}

async function checkCharge(shown, keys) {
  const { said, logged, proven } = await inManifest(shown, keys);
  return lacking("the charge", async () => {
    const charge = need(shown, "charge");
    const [app, grains] = [String(need(charge, "app")), integer(need(charge, "charged_grains"))];
    if (need(charge, "period") !== need(said, "period") || need(charge, "currency") !== need(said, "cur")) throw new Invalid("the charge is not of this period");
    if ((await checkLeaves("app", app, charge, need(shown, "leaves"), need(said, "apps"))) !== grains) throw new Invalid(`the period holds another sum for ${app}`);
    const count = need(need(said, "apps"), "n") / BigInt(PARTS);
    return {
      kind: "charge", facts: charge, lines: [], logged, count,
      proven: [`signed: what ${app} was charged in ${said.get("period")}, ${grains} grains in ${said.get("cur")}`, ...proven,
        `once: ${app} stands in the period's ${count} apps once, with this sum`],
    };
  });
}

async function checkManifest(shown, keys) {
  const { said, logged, proven } = await inManifest(shown, keys);
  return { kind: "manifest", facts: said, lines: [], logged, proven: [`signed: the period ${said.get("period")}, and its sums add up`, ...proven] };
}

// A change of the registry, in its batch at the place that its number says; `said` is what changed.
async function checkChange(shown, keys) {
  return lacking("the change", async () => {
    const [change, batch, path] = [need(shown, "change"), need(shown, "batch"), need(shown, "path")];
    const [first, count, seq] = [integer(need(batch, "first")), integer(need(batch, "n")), integer(need(change, "seq"))];
    if (!Array.isArray(path)) throw new TypeError("path");
    const salt = fromB64url(String(need(shown, "salt")), "the salt");
    const root = fromB64url(String(need(batch, "root")), "the batch's root");
    const [kind, work, at] = [need(change, "kind"), need(change, "work"), integer(need(change, "at"))];
    if (batch.size !== 4 || need(batch, "v") !== 1n || salt.length !== SALT_BYTES) throw new Invalid("the batch or the salt is not as they are written");
    const hashes = path.map((one) => fromB64url(String(one), "the path"));
    const leaf = await leafHash(joined(salt, utf8(canonical(change))));
    if (!same(await includedRoot(leaf, seq - first, count, hashes), root)) throw new Invalid("the batch does not hold this change at that number");
    const said = shown.has("said") ? canonical(shown.get("said")) : null;
    if (said !== null && hex(await sha256(utf8(said))) !== need(change, "payload")) throw new Invalid("this is not what changed");
    const logged = await checkProof(String(need(shown, "proof")), await changesEntry(utf8(canonical(batch))), keys.notes, keys.origin);
    const when = new Date(Number(at / 1000000n) * 1000).toISOString().replace(".000Z", "+00:00");
    return {
      kind: "change", facts: change, lines: [], logged,
      proven: [`registry: its change ${seq} is ${kind}${work ? ` of ${work}` : ""}, by ${need(change, "actor")}, ${when}`,
        ...(said === null ? [] : [`said: ${said}`]), `logged: it is in one of the ${logged.size} entries of ${logged.origin}, at that number`],
    };
  });
}

const ONE_SPELLING = {
  "batch,change,path,proof,salt": checkChange,
  "batch,change,path,proof,said,salt": checkChange,
  "leaves,manifest,nonce,proof,statement": checkStatement,
  "charge,leaves,manifest,proof": checkCharge,
  "manifest,proof": checkManifest,
};
const OF_A_RECEIPT = new Set(["lines", "nonce", "proof", "receipt"]);

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

// What else a second file shows of a signed statement: the receipts behind it (JSON Lines), or that it follows
// the file of the period before. A sentence, as verify.py says it.
export async function checkBeside(text, beside, keys) {
  return beside.trim().includes("\n") ? checkUses(beside, text, keys) : checkInRow(beside, text, keys);
}

async function checkUses(rows, text, keys) {
  const shown = fromCanonical(utf8(text.trim()), "the statement's file");
  const { facts } = await checkStatement(shown, keys);
  const [head, ...uses] = rows.trim().split("\n");
  const first = fromCanonical(utf8(head), "the first line");
  const until = (await openManifest(shown.get("manifest"), keys)).said.get("log").get("size");
  if (first.get("manifest") !== shown.get("manifest") || first.get("statement") !== facts.get("id")) throw new Invalid("these are not the uses of this statement");
  const checkpoint = await openCheckpoint(String(first.get("checkpoint")), keys.notes, keys.origin);
  const counted = new Map(), stated = new Map(), seen = new Set();
  const count = (sums, key, answers, ppm) => {
    const [before, sum] = sums.get(canonical(key)) ?? [0n, 0n];
    sums.set(canonical(key), [before + answers, sum + ppm]);
  };
  for (const row of uses) {
    const use = fromCanonical(utf8(row), "a line");
    const [index, line, payload, said, path] = await lacking("a line of the uses", async () => {
      const found = await openJws(need(use, "receipt"), keys.kids);
      const opened = need(use, "line");
      return [integer(need(use, "index")), opened, found, await checkLine(found, opened), need(use, "path").map((one) => fromB64(String(one), "the path"))];
    });
    const root = await includedRoot(await leafHash(await receiptEntry(payload)), index, checkpoint.size, path);
    const place = `${index} ${line.get("work")}`;
    if (!same(root, checkpoint.root) || index >= until || seen.has(place)) throw new Invalid("a receipt is not in the log, or not of this period, or counted twice");
    seen.add(place);
    const day = new Date(Number(said.get("iat") / 1000n)).toISOString().slice(0, 10);
    count(counted, [line.get("work"), said.get("app"), said.get("mdl"), day], 1n, line.get("ppm"));
  }
  for (const line of facts.get("lines")) {
    if (line.get("verdict") === "released" || !line.get("answers")) continue;
    count(stated, ["work", "app", "model", "day"].map((name) => line.get(name)), line.get("answers"), line.get("ppm_sum"));
  }
  const isAll = counted.size === stated.size && [...counted].every(([key, sums]) => String(sums) === String(stated.get(key)));
  if (!isAll) throw new Invalid("the receipts are not those that the statement's lines count");
  return `uses: the receipts of ${seen.size} uses are all that its lines count, each in the log once`;
}

async function checkInRow(older, newer, keys) {
  await checkFile(older, keys);
  const [before, after] = [older, newer].map((text) => (text.trim().startsWith("{") ? parse(text.trim()) : new Map()));
  if (!before.has("manifest") || !after.has("manifest")) throw new Invalid("only what belongs to a period has a period before it");
  const [one, next] = [await openManifest(before.get("manifest"), keys), await openManifest(after.get("manifest"), keys)];
  const previous = hex(await sha256(one.payload));
  await lacking("a manifest", () => {
    const follows = need(next.said, "seq") === added(need(one.said, "seq"), 1n) && need(next.said, "prev") === previous;
    const bounds = canonical(need(need(next.said, "basis"), "start_bounds")) === canonical(need(need(one.said, "basis"), "end_bounds"));
    const grows = need(need(next.said, "log"), "size") >= need(need(one.said, "log"), "size");
    if (!(follows && bounds && grows)) throw new Invalid("the later period does not begin where the earlier one ended");
  });
  const shown = "the period follows the one before, and nothing lies between them";
  const [first, second] = [before.get("statement"), after.get("statement")];
  if (!first || !second) return `next: ${shown}`;
  if (first.get("creator") !== second.get("creator") || first.get("closing_grains") !== second.get("opening_grains")) throw new Invalid("the later statement does not open with what the earlier one closed with");
  return `next: ${shown}; its opening is the closing of that`;
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
  if (said.has("manifest") || said.has("change")) {
    // One spelling and no member more: a flipped bit must not turn a file into one that says less.
    const check = ONE_SPELLING[[...said.keys()].sort().join()];
    if (!check || canonical(said) !== trimmed) throw new Invalid("this is no statement, charge, manifest or change as they are written");
    return check(said, keys);
  }
  const [token, shown] = [said.get("receipt"), said.has("lines") ? said.get("lines") : []];
  if (typeof token !== "string" || !Array.isArray(shown)) throw new Invalid("there is no receipt in it");
  if ([...said.keys()].some((name) => !OF_A_RECEIPT.has(name))) throw new Invalid("this holds more than what belongs to a receipt");
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
