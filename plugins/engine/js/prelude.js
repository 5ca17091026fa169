// What every script finds, before it is loaded: the platform as the script sees it, and the turns of the event loop. It
// evaluates to the one function that Go calls. Values cross as texts and numbers only, so no value of a script is ever read
// by anything but the interpreter.
(() => {
"use strict";

const host = globalThis.$host; // (op, ...texts and numbers)
delete globalThis.$host;
const op = { log: 0, call: 1, timer: 2, clear: 3, settle: 4, text: 5, bytes: 6, random: 7, encode: 8, decode: 9, uuid: 10, ask: 11, compute: 12, wait: 13, library: 14 };
const { stringify, parse } = JSON;
const { apply } = Reflect;
const { fromBase64 } = Uint8Array;
const { toBase64 } = Uint8Array.prototype;
const bytesFrom = (text) => apply(fromBase64, Uint8Array, [text]);
const base64Of = (bytes) => apply(toBase64, bytes, []);

const define = (values) => {
  for (const name of Object.keys(values)) {
    Object.defineProperty(globalThis, name, { value: values[name], writable: true, configurable: true });
  }
};

// bytesOf is a view of what holds bytes, undefined of what does not.
const bytesOf = (v) => {
  if (v instanceof Uint8Array) return v;
  if (ArrayBuffer.isView(v)) return new Uint8Array(v.buffer, v.byteOffset, v.byteLength);
  if (v instanceof ArrayBuffer || v instanceof SharedArrayBuffer) return new Uint8Array(v);
  return undefined;
};

// json writes a value; what JSON has no form for is refused.
const json = (v, replacer) => {
  const text = stringify(v, replacer);
  if (text === undefined) throw new TypeError(`a ${typeof v} has no form in JSON`);
  return text;
};

class PicloudError extends Error {
  constructor(code, message, retryAfterMs) {
    super(message);
    this.code = code;
    if (retryAfterMs > 0) this.retryAfterMs = retryAfterMs;
  }
}
class RetryAfter extends Error {
  constructor(message, ms, options) {
    super(message instanceof Error ? message.message : message, message instanceof Error ? { cause: message } : options);
    this.retryAfterMs = ms;
  }
}
class Fatal extends Error {
  constructor(message, options) {
    super(message instanceof Error ? message.message : message, message instanceof Error ? { cause: message } : options);
  }
}
for (const type of [PicloudError, RetryAfter, Fatal]) {
  Object.defineProperty(type.prototype, "name", { value: type.name, writable: true, configurable: true });
}

class Response {
  constructor(body, init) {
    this.body = body;
    this.status = init?.status ?? 200;
    this.headers = { ...init?.headers };
  }
  static json(value, init) {
    const r = new Response(json(value), init);
    if (!Object.keys(r.headers).some((name) => name.toLowerCase() === "content-type")) {
      r.headers["Content-Type"] = "application/json";
    }
    return r;
  }
}

class BatchResult {
  constructor(failures) {
    this.failures = failures ?? [];
  }
}

// The turns of the event loop. pending holds what waits for Go: functions of timers, and of calls of the host.

let run = { live: false };
let handle;
let ids = 0;
let pending = new Map();

const setTimeout = (f, ms, ...args) => {
  if (typeof f !== "function") throw new TypeError("setTimeout takes a function");
  const id = ++ids;
  pending.set(id, () => f(...args));
  host(op.timer, id, Math.min(Math.max(0, Number(ms) || 0), 1e12));
  return id;
};
const clearTimeout = (id) => {
  if (pending.delete(id)) host(op.clear, id);
};
const queueMicrotask = (f) => {
  if (typeof f !== "function") throw new TypeError("queueMicrotask takes a function");
  Promise.resolve().then(() => {
    try {
      f();
    } catch (e) {
      fail(e);
    }
  });
};

const shown = (v) => {
  if (typeof v === "string") return v;
  if (v instanceof Error) return String(v);
  if (typeof v === "object" && v !== null) return stringify(v) ?? String(v);
  return String(v);
};

// wishes is what an error and its causes ask for.
const wishes = (thrown) => {
  const w = {};
  for (let e = thrown, n = 0; e instanceof Error && n < 16; e = e.cause, n++) {
    if (e instanceof Fatal) w.fatal = true;
    if (e instanceof RetryAfter && w.after === undefined) w.after = Number(e.retryAfterMs) || 0;
  }
  return w;
};

// described is what is told of what a script threw: a message, where it comes from, and its wishes.
const described = (thrown) => {
  const d = { message: "the script threw what cannot be shown" };
  try {
    if (thrown instanceof Error) {
      const name = String(thrown.name);
      const text = thrown instanceof PicloudError ? `${thrown.code}: ${thrown.message}` : String(thrown.message);
      d.name = name;
      d.message = thrown instanceof PicloudError || thrown instanceof RetryAfter || thrown instanceof Fatal || name === "Error"
        ? text || name : text === "" ? name : `${name}: ${text}`;
      d.stack = typeof thrown.stack === "string" ? thrown.stack : "";
      Object.assign(d, wishes(thrown));
    } else {
      d.message = shown(thrown);
    }
  } catch {}
  return stringify(d);
};

const settle = (kind, ...parts) => {
  run.live = false;
  host(op.settle, kind, ...parts);
};
const fail = (thrown) => settle("failed", described(thrown));

const answer = (value) => {
  try {
    if (value === undefined || value === null) return settle("none");
    if (value instanceof BatchResult) {
      if (!Array.isArray(value.failures)) throw new TypeError("a BatchResult takes a list");
      return settle("batch", json(value.failures.map((f) => ({
        id: f.id, error: f.error === undefined ? "" : shown(f.error), retryAfterMs: f.retryAfterMs, fatal: f.fatal,
      }))));
    }
    if (!(value instanceof Response)) return settle("json", json(value));
    const status = Number(value.status), headers = json(value.headers ?? {}), body = value.body;
    if (body === undefined || body === null) return settle("response", status, headers, "none", "");
    if (typeof body === "string") return settle("response", status, headers, "text", body);
    const bytes = bytesOf(body);
    if (bytes !== undefined) return settle("response", status, headers, "bytes", base64Of(bytes));
    return settle("response", status, headers, "json", json(body));
  } catch (e) {
    settle("invalid", described(e));
  }
};

// The context of a run.

const canonical = (name) => String(name).toLowerCase().replace(/(^|-)[a-z]/g, (s) => s.toUpperCase());
const own = (record, name) => (Object.hasOwn(record, name) ? record[name] : undefined);

// readable gives o what the body of an event can be read as. item is which one: 0 the event's, then those of a batch.
const readable = (o, item) => {
  let body;
  Object.defineProperty(o, "body", { enumerable: true, get: () => (body ??= bytesFrom(host(op.bytes, item))) });
  o.text = () => host(op.text, item);
  o.json = () => {
    try {
      return parse(host(op.text, item));
    } catch (e) {
      throw new SyntaxError(`the body is not the JSON that is expected: ${e.message}`);
    }
  };
  return o;
};

// item is data in the form that the host sends.
const item = (data) => {
  if (data === undefined || data === null) return ["none", ""];
  if (typeof data === "string") return ["text", data];
  const bytes = bytesOf(data);
  if (bytes !== undefined) return ["bytes", base64Of(bytes)];
  try {
    return ["json", json(data)];
  } catch (e) {
    throw new PicloudError("invalid_argument", `the data cannot be sent: ${e.message}`);
  }
};

// asked begins a call of the host and resolves to its answer.
const asked = async (mine, kind, ...parts) => {
  if (!mine.live || mine !== run) throw new PicloudError("cancelled", "the run is over");
  const { promise, resolve, reject } = Promise.withResolvers();
  const id = ++ids;
  pending.set(id, (ok, text) => {
    const v = parse(text);
    if (ok) return resolve(v);
    const e = new PicloudError(v.code, v.message, v.retryAfterMs);
    if (v.ids) e.ids = v.ids;
    reject(e);
  });
  host(kind, id, ...parts);
  return promise;
};

const call = async (mine, service, name, items, delivery) => {
  for (const [option, v] of Object.entries(delivery ?? {})) {
    if (typeof v === "number" && !Number.isFinite(v) || v instanceof Date && Number.isNaN(v.getTime())) throw invalid(`${option} must not be ${v}`);
    // JSON would make U+FFFD of it, and two keys would be one.
    if (typeof v === "string" && !v.isWellFormed()) throw invalid(`${option} is no Unicode: write bytes as text, such as in hexadecimal`);
  }
  const d = delivery === undefined || delivery === null ? "" : json(delivery);
  return asked(mine, op.call, service, String(name), stringify(items), d);
};

// The services of sdk/service, made once for an interpreter.

const invalid = (text) => new PicloudError("invalid_argument", text);
const types = { text: "string", time: "string", number: "number", duration: "number" };
const named = { text: "a text", time: "a Date, or a time such as 2026-01-02T15:04:05Z", number: "a number", duration: "a number of milliseconds" };

const checked = (p, v) => {
  if (p.kind === "value" || p.kind === "body") {
    if (["undefined", "function", "symbol"].includes(typeof v)) throw invalid(`${p.name}: ${v === undefined ? "" : "a "}${typeof v} has no form in JSON`);
    if (bytesOf(v) !== undefined) throw invalid(`${p.name}: bytes have no form in JSON, base64.encode makes text of them`);
    return v;
  }
  if (p.kind === "time" && v instanceof Date) {
    if (Number.isNaN(v.getTime())) throw invalid(`${p.name} must be ${named.time}, not ${v}`);
    return v.toISOString();
  }
  if (p.kind === "texts" ? !Array.isArray(v) || v.some((x) => typeof x !== "string") : typeof v !== types[p.kind]) {
    throw invalid(`${p.name} must be ${named[p.kind] ?? "a list of texts"}`);
  }
  // JSON would make null of it, which is as if nothing had been said: no version, no time to live.
  if (typeof v === "number" && !Number.isFinite(v)) throw invalid(`${p.name} must be ${named[p.kind]}, not ${v}`);
  if (p.kind !== "duration") return v;
  return v < 0 ? Math.floor(v) : Math.ceil(v); // away from zero, which is as if nothing had been said
};

// spelt has the names of an answer as scripts spell them. What a script gave stays as it was.
const spelt = (v) => {
  if (Array.isArray(v)) return v.map(spelt);
  if (typeof v !== "object" || v === null) return v;
  const o = {};
  for (const name of Object.keys(v)) {
    if (name.endsWith("_base64")) {
      o[name.slice(0, -7)] = bytesFrom(v[name] ?? "");
      continue;
    }
    o[name.replace(/_([a-z])/g, (_, c) => c.toUpperCase())] = name === "value" || name === "data" || name === "headers" ? v[name] : spelt(v[name]);
  }
  return o;
};

// stated is for filters, of which JSON would leave out a condition whose value is missing: every document would be found, whoever's it is.
const stated = (name, v) => {
  if (["undefined", "function", "symbol"].includes(typeof v) || typeof v === "number" && !Number.isFinite(v)) {
    throw new TypeError(`${name} must not be ${typeof v === "number" ? v : typeof v}`);
  }
  return v;
};

const newMethod = (s, m) => {
  const replacer = m.params.some((p) => p.field === "filter") ? stated : undefined;
  const needed = m.params.filter((p) => !p.option), options = m.params.filter((p) => p.option);
  return async (mine, handle, args) => {
    const fields = {}, given = args[needed.length] ?? {};
    if (s.handle) fields[s.handle] = handle;
    if (args.length > needed.length + (options.length > 0 ? 1 : 0) || typeof given !== "object") {
      throw invalid(`${m.name} takes ${[...needed.map((p) => p.name), ...(options.length > 0 ? ["{options}"] : [])].join(", ")}`);
    }
    const put = (p, v) => {
      const bytes = bytesOf(v);
      if (bytes !== undefined && (p.kind === "data" || p.kind === "body")) return fields[p.field + "_base64"] = base64Of(bytes);
      if (p.kind !== "data") return fields[p.field] = checked(p, v);
      if (typeof v !== "string") throw invalid(`${p.name} must be a text or bytes`);
      return fields[p.field] = v;
    };
    needed.forEach((p, i) => { put(p, args[i]); });
    for (const name of Object.keys(given)) {
      const p = options.find((o) => o.name === name);
      if (p === undefined) throw invalid(`${m.name} has no option ${name}, only ${options.map((o) => o.name).join(", ")}`);
      if (given[name] !== undefined) put(p, given[name]);
    }
    let text;
    try {
      text = json(fields, replacer);
    } catch (e) {
      throw invalid(`the value cannot be sent: ${e.message}`);
    }
    const answer = await asked(mine, op.ask, s.name, m.call, text);
    if (m.result === "data_base64") return answer[m.result] === undefined ? undefined : bytesFrom(answer[m.result] ?? "");
    if (m.result === "value") return answer.value;
    return spelt(m.result ? answer[m.result] : answer);
  };
};

// A context has its services from here, so that a run pays only for those that it asks for.
const context = {};
const running = Symbol("run");
let openQueue;

const newServices = (table) => {
  for (const s of table) {
    const methods = s.methods.map((m) => [m.name, newMethod(s, m)]);
    if (s.plain) {
      for (const [name, f] of methods) {
        Object.defineProperty(context, name, { enumerable: true, get() { return async (...args) => f(this[running], undefined, args); } });
      }
      continue;
    }
    const open = (mine, handle) => {
      const o = {};
      for (const [name, f] of methods) o[name] = async (...args) => f(mine, handle, args);
      return o;
    };
    if (s.sends) {
      openQueue = open;
      continue;
    }
    Object.defineProperty(context, s.name, {
      enumerable: true,
      get() {
        const mine = this[running];
        if (!s.handle) return open(mine);
        return (name) => {
          if (typeof name !== "string") throw invalid(`${s.name} takes the name of a ${s.handle}`);
          return open(mine, name);
        };
      },
    });
  }
};

// addServices gives the context of a run what the table lists.
const addServices = (ctx, mine) => {
  Object.setPrototypeOf(ctx, context);
  Object.defineProperty(ctx, running, { value: mine });
};

const newQueue = (mine, name) => ({
  ...openQueue(mine, String(name)),
  send: async (data, delivery) => call(mine, "queue.send", name, [item(data)], delivery),
  sendAll: async (list, delivery) => call(mine, "queue.sendAll", name, Array.from(list, (data, i) => {
    try {
      return item(data);
    } catch (e) {
      e.message = `message ${i}: ${e.message}`;
      throw e;
    }
  }), delivery),
});

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const retry = async (f, options) => {
  if (typeof f !== "function") throw new TypeError("retry takes a function");
  const { attempts = 3, backoffMs = 100, ...others } = options ?? {};
  for (const name of Object.keys(others)) throw new TypeError(`retry has no option ${name}, only attempts, backoffMs`);
  const next = (attempt, after, fatal) => host(op.wait, attempt, Number(attempts), Number(backoffMs), after, fatal ? 1 : 0);
  next(0, 0, false); // looks at the options
  for (let attempt = 1; ; attempt++) {
    try {
      return await f();
    } catch (e) {
      const { fatal, after } = wishes(e);
      const wait = next(attempt, after ?? (e instanceof PicloudError && Number(e.retryAfterMs) || 0), fatal);
      if (wait < 0) throw e;
      await sleep(wait);
    }
  }
};

// line is shown for a log, over which no script fails.
const line = (v) => {
  try {
    return shown(v);
  } catch {
    return "what cannot be shown";
  }
};

const logged = (level) => (message, ...data) => {
  let text;
  try {
    if (data.length > 0) {
      const plain = data.map((v) => (v instanceof Error || v === undefined || typeof v === "function" ? shown(v) : v));
      text = stringify(plain.length === 1 ? plain[0] : plain) ?? stringify(shown(plain[0]));
    }
  } catch (e) {
    text = stringify(`not logged: ${line(e)}`);
  }
  host(op.log, level, line(message), text ?? "");
};
const log = {};
for (const level of ["trace", "debug", "info", "warn", "error"]) log[level] = logged(level);
const printed = (level) => (...values) => host(op.log, level, values.map(line).join(" "), "");
const console = {};
for (const [name, level] of [["log", "info"], ["info", "info"], ["debug", "debug"], ["trace", "trace"], ["warn", "warn"], ["error", "error"]]) {
  console[name] = printed(level);
}

const newContext = (m, mine) => {
  const q = m.request;
  q.header = (name) => own(q.headers, canonical(name))?.[0] ?? "";
  q.queryValue = (name) => own(q.query, String(name))?.[0] ?? "";
  q.param = (name) => own(q.params, String(name)) ?? "";
  readable(q, 0);
  m.batch = m.batch === null ? null : m.batch.map((message, i) => readable(message, i + 1));
  m.log = log;
  m.sleep = sleep;
  m.retry = retry;
  m.invoke = async (script, data, delivery) => call(mine, "invoke.send", script, [item(data)], delivery);
  m.queue = (name) => newQueue(mine, name);
  addServices(m, mine);
  return m;
};

// What scripts find beside the language.

class TextEncoder {
  get encoding() { return "utf-8"; }
  encode(text = "") { return bytesFrom(host(op.encode, String(text))); }
}
class TextDecoder {
  #fatal;
  #keep;
  constructor(label = "utf-8", options) {
    if (!/^\s*utf-?8\s*$/i.test(label)) throw new RangeError(`there is no decoder for ${label}, only for utf-8`);
    this.#fatal = Boolean(options?.fatal);
    this.#keep = Boolean(options?.ignoreBOM);
  }
  get encoding() { return "utf-8"; }
  get fatal() { return this.#fatal; }
  get ignoreBOM() { return this.#keep; }
  decode(bytes = new Uint8Array()) {
    const view = bytesOf(bytes);
    if (view === undefined) throw new TypeError("decode takes an ArrayBuffer or a view of one");
    const text = host(op.decode, base64Of(view), this.#fatal ? 1 : 0);
    if (typeof text !== "string") throw new TypeError("the bytes are not UTF-8");
    return !this.#keep && text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
  }
}

const btoa = (text) => {
  text = String(text);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c > 255) throw new RangeError("btoa takes characters up to U+00FF");
    bytes[i] = c;
  }
  return base64Of(bytes);
};
const atob = (text) => {
  const bytes = bytesFrom(String(text));
  let out = "";
  for (let i = 0; i < bytes.length; i += 4096) out += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return out;
};

const crypto = {
  randomUUID: () => host(op.uuid),
  getRandomValues: (array) => {
    const view = bytesOf(array);
    if (view === undefined || array instanceof Float32Array || array instanceof Float64Array || array instanceof DataView) {
      throw new TypeError("getRandomValues takes an array of integers");
    }
    if (view.length > 65536) throw new RangeError("getRandomValues gives 65536 bytes at a time");
    view.set(bytesFrom(host(op.random, view.length)));
    return array;
  },
};

// The addresses of the web, as far as servers need them. They are read as url.parse of the library does. What defines them runs when
// a script first asks for one: of what an interpreter costs, that and the library would be a third.

const addresses = () => {
const url = library("url");
class URLSearchParams {
  #list = [];
  constructor(init = "") {
    if (typeof init === "string") {
      for (const part of init.replace(/^\?/, "").split("&")) {
        const at = part.indexOf("="), decode = (text) => {
          text = text.replaceAll("+", " ");
          try {
            return decodeURIComponent(text);
          } catch {
            return text;
          }
        };
        if (part !== "") this.#list.push(at < 0 ? [decode(part), ""] : [decode(part.slice(0, at)), decode(part.slice(at + 1))]);
      }
    } else {
      for (const [name, value] of typeof init[Symbol.iterator] === "function" ? init : Object.entries(init)) this.append(name, value);
    }
  }
  get size() { return this.#list.length; }
  append(name, value) { this.#list.push([String(name), String(value)]); }
  delete(name) { this.#list = this.#list.filter((p) => p[0] !== String(name)); }
  get(name) { return this.#list.find((p) => p[0] === String(name))?.[1] ?? null; }
  getAll(name) { return this.#list.filter((p) => p[0] === String(name)).map((p) => p[1]); }
  has(name) { return this.#list.some((p) => p[0] === String(name)); }
  set(name, value) {
    const first = this.#list.find((p) => p[0] === String(name));
    if (first === undefined) return this.append(name, value);
    first[1] = String(value);
    this.#list = this.#list.filter((p) => p === first || p[0] !== first[0]);
  }
  sort() { this.#list.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0)); }
  forEach(f) { for (const [name, value] of this.#list) f(value, name, this); }
  *entries() { for (const [name, value] of this.#list) yield [name, value]; }
  *keys() { for (const [name] of this.#list) yield name; }
  *values() { for (const [, value] of this.#list) yield value; }
  [Symbol.iterator]() { return this.entries(); }
  toString() {
    const encode = (text) => encodeURIComponent(text.toWellFormed()).replace(/[!'()~]/g, (c) => "%" + c.charCodeAt(0).toString(16).toUpperCase()).replaceAll("%20", "+");
    return this.#list.map(([name, value]) => `${encode(name)}=${encode(value)}`).join("&");
  }
}

class URL {
  #parts;
  #query;
  #read;
  constructor(text, base) {
    this.#parts = url.parse(base === undefined ? String(text) : url.resolve(String(base), String(text)));
    if (this.#parts.scheme === "") throw new TypeError(`there is no scheme, such as https, in the address`);
    if (this.#parts.host !== "" && this.#parts.path === "") this.#parts.path = "/";
    this.#parts.host = this.#parts.host.toLowerCase();
  }
  static canParse(text, base) {
    try {
      return Boolean(new URL(text, base));
    } catch {
      return false;
    }
  }
  get protocol() { return this.#parts.scheme + ":"; }
  set protocol(text) { this.#parts.scheme = String(text).replace(/:.*$/s, ""); }
  get username() { return encodeURIComponent(this.#parts.user); }
  get password() { return encodeURIComponent(this.#parts.password); }
  get host() { return this.#parts.host; }
  set host(text) { this.#parts.host = url.parse(`x://${text}`).host; }
  get hostname() { return this.#parts.host.replace(/:\d*$/, ""); }
  get port() { return /:(\d*)$/.exec(this.#parts.host)?.[1] ?? ""; }
  get pathname() { return this.#parts.path; }
  set pathname(text) { this.#parts.path = encodeURI(String(text)).replaceAll("%25", "%").replace(/[?#]/g, encodeURIComponent).replace(/^(?!\/)/, "/"); }
  get searchParams() {
    if (this.#query === undefined) {
      this.#query = new URLSearchParams(this.#parts.query);
      this.#read = this.#query.toString();
    }
    return this.#query;
  }
  get search() {
    const now = this.#query?.toString();
    const text = now === this.#read ? this.#parts.query : now; // as it was written, until it is changed
    return text === "" ? "" : "?" + text;
  }
  set search(text) {
    this.#parts.query = String(text).replace(/^\?/, "").replaceAll("#", "%23");
    this.#query = this.#read = undefined;
  }
  get hash() { return this.#parts.fragment === "" ? "" : "#" + this.#parts.fragment; }
  set hash(text) { this.#parts.fragment = String(text).replace(/^#/, ""); }
  get origin() { return `${this.protocol}//${this.host}`; }
  get href() {
    const { user, password, host, path } = this.#parts;
    const who = user === "" && password === "" ? "" : `${this.username}${password === "" ? "" : ":" + this.password}@`;
    return `${this.protocol}${host === "" ? "" : "//" + who + host}${path}${this.search}${this.hash}`;
  }
  toString() { return this.href; }
  toJSON() { return this.href; }
}
return { URL, URLSearchParams };
};

const errors = [EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError, Error];

// structuredClone copies what the web's does, but for what belongs to a page.
const structuredClone = (value) => {
  const seen = new Map();
  const clone = (v) => {
    if (typeof v === "function" || typeof v === "symbol") throw new TypeError(`a ${typeof v} cannot be cloned`);
    if (typeof v !== "object" || v === null) return v;
    if (seen.has(v)) return seen.get(v);
    const keep = (copy) => (seen.set(v, copy), copy);
    if (v instanceof Date) return keep(new Date(v.getTime()));
    if (v instanceof RegExp) return keep(new RegExp(v.source, v.flags));
    if (v instanceof ArrayBuffer) return keep(v.slice(0));
    if (v instanceof DataView) return keep(new DataView(clone(v.buffer), v.byteOffset, v.byteLength));
    if (ArrayBuffer.isView(v)) return keep(new v.constructor(clone(v.buffer), v.byteOffset, v.length));
    if (v instanceof Boolean || v instanceof Number || v instanceof String) return keep(Object(v.valueOf()));
    if (v instanceof Promise || v instanceof WeakMap || v instanceof WeakSet || v instanceof WeakRef) {
      throw new TypeError("what waits or refers cannot be cloned");
    }
    if (v instanceof Map) {
      const copy = keep(new Map());
      for (const [k, x] of [...v]) copy.set(clone(k), clone(x));
      return copy;
    }
    if (v instanceof Set) {
      const copy = keep(new Set());
      for (const x of [...v]) copy.add(clone(x));
      return copy;
    }
    if (v instanceof Error) {
      const type = errors.find((t) => v.name === t.name) ?? Error;
      const copy = keep(new type(v.message));
      copy.stack = v.stack;
      if (Object.hasOwn(v, "cause")) copy.cause = clone(v.cause);
      return copy;
    }
    const copy = keep(Array.isArray(v) ? new Array(v.length) : {});
    for (const k of Object.keys(v)) copy[k] = clone(v[k]);
    return copy;
  };
  return clone(value);
};

// The standard library of sdk/stdlib, of which an interpreter makes the modules that its script imports.

const newFunction = (title, f) => {
  const needed = f.params.filter((p) => !p.option).length, options = f.params.slice(needed);
  return (...args) => {
    const given = args[needed] ?? {};
    if (args.length > needed + (options.length > 0 ? 1 : 0) || typeof given !== "object") {
      throw new TypeError(`${title} takes ${[...f.params.slice(0, needed).map((p) => p.name), ...(options.length > 0 ? ["{options}"] : [])].join(", ")}`);
    }
    for (const name of Object.keys(given)) {
      if (!options.some((p) => p.name === name)) throw new TypeError(`${title} has no option ${name}`);
    }
    const list = f.params.map((p, i) => {
      const v = p.option ? given[p.name] : args[i];
      if (p.kind !== "bytes" || typeof v === "string") return v;
      const bytes = bytesOf(v);
      return bytes && [base64Of(bytes)]; // a list of the script's own is none
    });
    const answer = parse(host(op.compute, f.index, stringify(list)));
    return f.result === "bytes" ? bytesFrom(answer) : f.result === "time" ? new Date(answer) : answer;
  };
};

const libraries = {};
const library = (module) => libraries[module] ??= Object.fromEntries(
  parse(host(op.library, module)).map((f) => [f.name, newFunction(`${module}.${f.name}`, f)]));

// later defines globals that f makes, when one of them is first asked for.
const later = (names, f) => {
  for (const name of names) {
    Object.defineProperty(globalThis, name, {
      configurable: true,
      get: () => {
        const made = f();
        for (const n of names) if (Object.getOwnPropertyDescriptor(globalThis, n)?.get !== undefined) define({ [n]: made[n] });
        return made[name];
      },
      set: (value) => define({ [name]: value }),
    });
  }
};

const module = { Response, BatchResult, RetryAfter, Fatal, PicloudError, VERSION: undefined };

const turns = {
  // load runs what stands outside of functions. The script calls back with what its main file exports.
  load: (version, table, script) => {
    module.VERSION = version;
    newServices(parse(table));
    define({ ...module });
    module.library = library;
    run = { live: false };
    pending = new Map();
    script(module, (exports) => { handle = exports.default ?? exports.handle; }).then(() => {
      if (typeof handle === "function") return settle("none");
      fail(new TypeError("the script has no export default function handle(ctx)"));
    }, fail);
  },
  begin: (meta) => {
    const mine = run = { live: true };
    pending = new Map();
    try {
      const result = handle(newContext(parse(meta), mine));
      if (typeof result !== "object" || result === null || typeof result.then !== "function") return answer(result);
      new Promise((resolve) => resolve(result)).then(answer, fail);
    } catch (e) {
      fail(e);
    }
  },
  // fire runs the function of a timer.
  fire: (id) => {
    const f = pending.get(id);
    pending.delete(id);
    try {
      f();
    } catch (e) {
      fail(e);
    }
  },
  // resume settles a call of the host.
  resume: (id, ok, text) => {
    const f = pending.get(id);
    pending.delete(id);
    f(ok === 1, text);
  },
  // unhandled describes the reason of a promise that was rejected and that nothing handles.
  unhandled: () => {
    const reason = globalThis.$reason;
    delete globalThis.$reason;
    return described(reason);
  },
};

define({
  console, setTimeout, clearTimeout, queueMicrotask, TextEncoder, TextDecoder, atob, btoa, crypto, structuredClone,
});
later(["URL", "URLSearchParams"], addresses);

return (turn, ...args) => turns[turn](...args);
})()
