// Code generated from sdk/scripttest by make generate. DO NOT EDIT.
//
// What scripts of PiCloud see, version 1.3. A script exports a function, which is called once for each request or event:
//
//   import type { Context } from "picloud";
//
//   export default async function handle(ctx: Context) {
//     return { hello: ctx.request.param("name") };
//   }
//
// Nothing is an empty answer with status 204, a Response is sent as it is, and anything else as JSON with status 200. What is
// thrown fails the run: a caller has a 502, an event is tried again. "app/<name>" is a module of the same app.

declare module "picloud" {
  /** One run of a script. */
  export interface Context {
    /** Names the delivery of the event to this script. It stays the same over attempts, so it is good for recognising work that was done already. */
    readonly executionId: string;
    /** Counts the starts of this delivery, this one included. */
    readonly attempt: number;
    /** The version of what scripts see. */
    readonly sdkVersion: string;
    /** The event that this run handles. */
    readonly event: Event;
    /** The HTTP request, or what stands in its place. */
    readonly request: Request;
    /** The events of a run that handles several; nothing where it handles one. */
    readonly batch: Message[] | null;
    /** The record of this run. What a script prints is logged there at info. */
    readonly log: Log;
    /** Waits, and ends with the run. */
    sleep(ms: number): Promise<void>;
    /** Calls a function until it does not fail, 3 times or as often as is said, up to 100, and returns what it returned. It waits in between, 100 ms or what is said, each time twice as long, up to 30 seconds; or as long as the error asks. It gives up at once where the error is fatal, or the run would end before the next attempt. */
    retry<T>(f: () => T | Promise<T>, options?: { attempts?: number; backoffMs?: number }): Promise<T>;
    /** Has another script of the app run with data as its body, and returns the id of that execution once the event is safe. Bytes and text are sent as they are, anything else as JSON. */
    invoke(script: string, data?: unknown, delivery?: Delivery): Promise<string>;
    /** Names a queue of the app. */
    queue(name: string): Queue;
    /** Values by key, in a collection of the app. A collection needs no making. */
    kv(collection: string): KV;
    /** Files with a name and a media type, in a collection of the app. A collection needs no making. */
    files(collection: string): Files;
    /** Messages under topics, which are words divided by dots: user.created. Triggers of kind pubsub take them. */
    readonly pubsub: PubSub;
    /** Documents: JSON objects with an id, in a collection of the app, which are found by what is in them. A collection needs no making. */
    docs(collection: string): Docs;
    /** Requests to the world outside: to public addresses at the ports 80 and 443, and what the instance allows. An answer of any status is no error. Headers are texts or lists of them; a body of text or bytes is sent as it is, any other value as JSON. In JavaScript and Starlark the body of an answer is text, or where it is none, bytes. */
    readonly http: HTTP;
    /** Values that only scripts of the app read. What a run has read or set is masked in its logs and errors, from four bytes on. */
    readonly secrets: Secrets;
    /** What leaves the platform: to a URL, a mail server, or what a plugin reaches. A sink is made with picloud sinks create. */
    sink(sink: string): Sink;
    /** E-mail, by the mail server that the settings smtp_host and so on name. */
    readonly email: Email;
    /** Has another script of the app run, at most once, and waits for its answer; an answer of any status is no error. The script sees a request with the body: text and bytes as they are, any other value as JSON. It has its own time, or what is said, and never more than the run has left. */
    call(script: string, body: unknown, options?: { headers?: unknown; timeoutMs?: number }): Promise<HTTPResponse>;
  }

  /** The envelope of an event. Text that there is none of is empty. */
  export interface Event {
    /** The fact: the same in every delivery. */
    readonly id: string;
    /** Who reports it, such as "http". */
    readonly source: string;
    /** What happened, such as "http.request". */
    readonly type: string;
    /** What it is about. */
    readonly subject: string;
    /** When it was accepted; as text by RFC 3339. */
    readonly time: string;
    /** The media type of its data. */
    readonly contentType: string;
  }

  /** The HTTP request, or the data of another event. */
  export interface Request {
    /** In upper case. */
    readonly method: string;
    /** As the caller named it. */
    readonly host: string;
    /** Decoded. */
    readonly path: string;
    /** What {rest...} of the route matched. */
    readonly rest: string;
    /** By canonical names, "Content-Type". */
    readonly headers: Readonly<Record<string, string[]>>;
    /** The parameters behind the "?". */
    readonly query: Readonly<Record<string, string[]>>;
    /** Those of the route: "/users/{id}" gives "id". */
    readonly params: Readonly<Record<string, string>>;
    /** The bytes that were sent. */
    readonly body: Uint8Array;
    /** The first value of a header, in any case; "" if there is none. */
    header(name: string): string;
    /** The first value of a query parameter; "" if there is none. */
    queryValue(name: string): string;
    /** A parameter of the route; "" if there is none. */
    param(name: string): string;
    /** The body as text. */
    text(): string;
    /** The body as JSON; an error if it is none. */
    json<T = unknown>(): T;
  }

  /** One event of a batch. */
  export interface Message {
    /** What the execution's id would be if it came alone. */
    readonly id: string;
    /** Of this event; others of the batch may have another. */
    readonly attempt: number;
    /** Its envelope. */
    readonly event: Event;
    /** Its data. */
    readonly body: Uint8Array;
    /** Its data as text. */
    text(): string;
    /** Its data as JSON. */
    json<T = unknown>(): T;
  }

  /** An answer that says more than a value can. */
  export class Response {
    /** A status (200 where none is named), headers, and a body: text and bytes are sent as they are, anything else as JSON. A Content-Type is set where there is none. */
    constructor(body?: unknown, init?: { status?: number; headers?: Record<string, string | string[]> });
    /** An answer of JSON, also of text. */
    static json(value: unknown, init?: { status?: number; headers?: Record<string, string | string[]> }): Response;
  }

  /** Which events of a batch failed; the others are done. */
  export class BatchResult {
    /** Is returned to say which events of a batch failed. */
    constructor(failures: Failure[]);
  }

  /** An event of a batch that failed. */
  export interface Failure {
    /** Of the message. */
    id: string;
    /** What went wrong. */
    error?: string;
    /** Try again after this; none: as the back-off says. */
    retryAfterMs?: number;
    /** Do not try again. */
    fatal?: boolean;
  }

  /** Writes to the record of the run. Data is kept as JSON; several values become a list. */
  export interface Log {
    /** What only helps to find a fault. */
    trace(message: string, ...data: unknown[]): void;
    /** What helps to understand a run. */
    debug(message: string, ...data: unknown[]): void;
    /** What happened. */
    info(message: string, ...data: unknown[]): void;
    /** What should be looked at. */
    warn(message: string, ...data: unknown[]): void;
    /** What went wrong. */
    error(message: string, ...data: unknown[]): void;
  }

  /** A queue of the app. One that does not exist is noticed when something is sent. */
  export interface Queue {
    /** Puts a message into the queue and returns its id once it is safe. */
    send(data?: unknown, delivery?: Delivery): Promise<string>;
    /** Sends up to 100 messages, 15 MiB together, and returns their ids. With an error some were not sent. */
    sendAll(list: unknown[], delivery?: Delivery): Promise<string[]>;
    /** How many messages wait and run, counted up to 10,000 of each state, and for how long the oldest has waited. */
    depth(): Promise<{ waiting: number; running: number; oldestAgeMs: number }>;
    /** Ends messages that wait, up to 10,000, with a record that says so. Those that run are left. */
    purge(): Promise<{ purged: number; more: boolean }>;
  }

  /** How one event is delivered, beyond what the policy of its queue or script says. */
  export interface Delivery {
    /** Before the first attempt. */
    delayMs?: number;
    /** Instead of a delay; as text by RFC 3339. */
    runAt?: string | Date;
    /** An event that has not started by then is given up. */
    expiresInMs?: number;
    /** From -100 to 100, the lower the earlier. */
    priority?: number;
    /** How often it is tried. */
    maxAttempts?: number;
    /** Keeps events of one key in order: the next waits until the one before has ended for good. */
    orderingKey?: string;
    /** What a policy's limit of runs at one time is counted by. */
    concurrencyKey?: string;
    /** What a policy's rate is counted by. */
    rateKey?: string;
    /** What a policy's debouncing is counted by. */
    debounceKey?: string;
    /** Makes a second call with the same key and content, within a day, return the id of the first. */
    idempotencyKey?: string;
  }

  /** What calls of the platform fail with. */
  export class PicloudError extends Error {
    /** What was refused: loop_depth, loop_budget, not_found, invalid_argument, overloaded, unavailable, or another. */
    readonly code: string;
    /** When to try again. */
    readonly retryAfterMs?: number;
  }

  /** Values by key, in a collection of the app. A collection needs no making. */
  export interface KV {
    /** The value of a key; nothing if there is none. */
    get<T = unknown>(key: string): Promise<T | undefined>;
    /** The value of a key with its version and when it expires. Without a value its version is 0. */
    entry<T = unknown>(key: string): Promise<Item<T>>;
    /** Whether there is a value. */
    has(key: string): Promise<boolean>;
    /** Sets the value of a key, and returns its version. With a time to live it is gone after that; with the version that it has to have, 0 for none, the call fails with conflict if it has another. */
    set(key: string, value: unknown, options?: { ttlMs?: number; ifVersion?: number }): Promise<number>;
    /** Deletes a key, and says whether there was a value. */
    delete(key: string, options?: { ifVersion?: number }): Promise<boolean>;
    /** Adds to a number, 1 where nothing is said, and returns the sum. A key without a value counts from 0, and lives as long as is said then. */
    increment(key: string, options?: { by?: number; ttlMs?: number }): Promise<number>;
    /** Keys with their values, in order: up to 100, at most 1,000, and the cursor of the next page. */
    list<T = unknown>(options?: { prefix?: string; limit?: number; cursor?: string }): Promise<Page<Item<T>>>;
  }

  /** Files with a name and a media type, in a collection of the app. A collection needs no making. */
  export interface Files {
    /** Makes a file of up to 8 MiB, or with the id of one that is there gives it another name and content. */
    create(name: string, data: string | Uint8Array, options?: { contentType?: string; id?: string }): Promise<File>;
    /** The content of a file of up to 8 MiB, checked; nothing if there is none. */
    get(id: string): Promise<Uint8Array | undefined>;
    /** What is known of a file; nothing if there is none. */
    head(id: string): Promise<File | undefined>;
    /** Deletes a file, and says whether there was one. */
    delete(id: string): Promise<boolean>;
    /** Files, the oldest first: up to 100, at most 1,000, and the cursor of the next page. */
    list(options?: { limit?: number; cursor?: string }): Promise<Page<File>>;
    /** Begins to write a large file, up to 1 GiB, and returns what names it until it is finished. */
    begin(): Promise<string>;
    /** Writes the next part of it, up to 8 MiB, behind as many bytes as are there, and returns how many there are then. */
    write(upload: string, offset: number, data: string | Uint8Array): Promise<number>;
    /** Makes the file. */
    finish(upload: string, name: string, options?: { contentType?: string; id?: string }): Promise<File>;
    /** Reads a block of 1 MiB, counted from 0, checked, and says whether there is more. The content's name changes when the file is written. */
    read(id: string, block: number): Promise<{ data: Uint8Array; more: boolean; content: string }>;
  }

  /** Messages under topics, which are words divided by dots: user.created. Triggers of kind pubsub take them. */
  export interface PubSub {
    /** Brings a message to every trigger of the app that takes its topic, all or none, and returns how many there are. The options are those of a delivery. */
    publish(topic: string, message: unknown, options?: { delayMs?: number; runAt?: string | Date; expiresInMs?: number; priority?: number; maxAttempts?: number; orderingKey?: string; concurrencyKey?: string; rateKey?: string; debounceKey?: string; idempotencyKey?: string }): Promise<number>;
    /** Hands a message to the triggers that take its topic, where a slot of this node is free now, and says how many that were, and for how many there was none. It is not written anywhere: each runs at most once, and leaves no record. */
    publishEphemeral(topic: string, message: unknown): Promise<{ deliveries: number; dropped: number }>;
  }

  /** Documents: JSON objects with an id, in a collection of the app, which are found by what is in them. A collection needs no making. */
  export interface Docs {
    /** Stores an object under a new id, or one that is given: a UUID that no document has yet. */
    create<T = unknown>(data: unknown, options?: { id?: string }): Promise<Doc<T>>;
    /** The document of an id; nothing if there is none. */
    get<T = unknown>(id: string): Promise<Doc<T> | undefined>;
    /** Replaces what a document holds. With a version, the call fails with conflict if the document has another by now. */
    update<T = unknown>(id: string, data: unknown, options?: { ifVersion?: number }): Promise<Doc<T>>;
    /** Deletes a document, and says whether there was one. */
    delete(id: string, options?: { ifVersion?: number }): Promise<boolean>;
    /** The documents that a filter takes, up to 100, at most 200, and the cursor of the next page. They are sorted by paths, with - before those that go down. A find that no index serves looks at no more than 10,000 documents; beyond that it fails, and says which index would help. */
    find<T = unknown>(filter: unknown, options?: { sort?: string[]; limit?: number; cursor?: string }): Promise<Page<Doc<T>>>;
    /** The first document that a filter takes; nothing if there is none. */
    findOne<T = unknown>(filter: unknown, options?: { sort?: string[] }): Promise<Doc<T> | undefined>;
    /** All documents, page by page. */
    list<T = unknown>(options?: { limit?: number; cursor?: string }): Promise<Page<Doc<T>>>;
    /** Makes an index of what is at a path, "text", "number", "bool" or "time", for filters and orders by it. It is ready afterwards; where there is one nothing happens. */
    index(path: string, type: string): Promise<string>;
  }

  /** Requests to the world outside: to public addresses at the ports 80 and 443, and what the instance allows. An answer of any status is no error. Headers are texts or lists of them; a body of text or bytes is sent as it is, any other value as JSON. In JavaScript and Starlark the body of an answer is text, or where it is none, bytes. */
  export interface HTTP {
    /** Fetches a URL. Up to 5 redirects are followed, within 30 seconds or the time that is said. */
    get(url: string, options?: { headers?: unknown; timeoutMs?: number }): Promise<HTTPResponse>;
    /** Asks for the headers of a URL. */
    head(url: string, options?: { headers?: unknown; timeoutMs?: number }): Promise<HTTPResponse>;
    /** Asks to delete what a URL names. */
    delete(url: string, options?: { headers?: unknown; timeoutMs?: number }): Promise<HTTPResponse>;
    /** Sends a body to a URL. */
    post(url: string, body: unknown, options?: { headers?: unknown; timeoutMs?: number }): Promise<HTTPResponse>;
    /** Sends a body to a URL. */
    put(url: string, body: unknown, options?: { headers?: unknown; timeoutMs?: number }): Promise<HTTPResponse>;
    /** Sends a body to a URL. */
    patch(url: string, body: unknown, options?: { headers?: unknown; timeoutMs?: number }): Promise<HTTPResponse>;
    /** Makes a request of any method; GET where none is said. */
    request(url: string, options?: { method?: string; headers?: unknown; body?: unknown; bodyBase64?: string; timeoutMs?: number }): Promise<HTTPResponse>;
  }

  /** Values that only scripts of the app read. What a run has read or set is masked in its logs and errors, from four bytes on. */
  export interface Secrets {
    /** The value of a secret; nothing if there is none. */
    get<T = string>(name: string): Promise<T | undefined>;
    /** Sets a secret: up to 64 KiB of JSON. */
    set(name: string, value: unknown): Promise<void>;
    /** Deletes a secret, and says whether there was one. */
    delete(name: string): Promise<boolean>;
    /** The names of all secrets. */
    list(): Promise<string[]>;
  }

  /** What leaves the platform: to a URL, a mail server, or what a plugin reaches. A sink is made with picloud sinks create. */
  export interface Sink {
    /** Has a message delivered: a text as it is, anything else as JSON, up to 1 MiB; and says what it is, with a type such as order.paid. It returns the id of the execution that delivers it, again where it fails. The options are those of a delivery. */
    send(message: unknown, options?: { type?: string; delayMs?: number; expiresInMs?: number; priority?: number; maxAttempts?: number; orderingKey?: string; idempotencyKey?: string }): Promise<string>;
  }

  /** E-mail, by the mail server that the settings smtp_host and so on name. */
  export interface Email {
    /** Has a message sent, to one address or a list of up to 100 with those in cc and bcc: with a subject, and a text, an HTML page or both. Attachments are a list of objects with name, content_type, and data as text or data_base64. All together, as JSON, has at most 6 MiB. It returns the id of the execution that sends it, again where that fails. Where e-mail is not configured it fails with unavailable. */
    send(options?: { to?: unknown; subject?: string; text?: string; html?: string; from?: string; cc?: unknown; bcc?: unknown; replyTo?: string; attachments?: unknown; delayMs?: number; expiresInMs?: number; priority?: number; maxAttempts?: number; orderingKey?: string; idempotencyKey?: string }): Promise<string>;
  }

  /** Fails the run and asks to be tried again then, instead of when the back-off says. */
  export class RetryAfter extends Error { constructor(message: string, ms: number) }

  /** Fails the run for good: an event becomes a dead letter at once. */
  export class Fatal extends Error { constructor(message: string) }

  /** Bytes as text, by RFC 4648. */
  export const base64: {
    /** Bytes, or the UTF-8 of a text, as base64 with padding; for URLs and file names with - and _, and without padding. */
    encode(data: string | Uint8Array, options?: { url?: boolean }): string;
    /** The bytes of base64, whose padding may be missing. Anything else is an error, white space, too. */
    decode(text: string, options?: { url?: boolean }): Uint8Array;
  }

  /** Bytes as text in hexadecimal. */
  export const hex: {
    /** Bytes, or the UTF-8 of a text, in lower case. */
    encode(data: string | Uint8Array): string;
    /** The bytes of a text in lower or upper case. */
    decode(text: string): Uint8Array;
  }

  /** Addresses, and what stands in them. */
  export const url: {
    /** A text with all but letters, digits and -._~ as %XX. Go's writes a space as +. */
    encode(text: string): string;
    /** A text with what %XX stands for, which has to be UTF-8. */
    decode(text: string): string;
    /** The parts of an address of up to 8 KiB, as they are written. */
    parse(text: string): { scheme: string; user: string; password: string; host: string; hostname: string; port: string; path: string; query: string; fragment: string };
    /** The address that another one, such as ../a, stands for on a page. */
    resolve(base: string, text: string): string;
    /** Fields, each a text or a list of them, as what stands behind the ? of an address, sorted by their names. */
    query(fields: Record<string, string | string[]>): string;
    /** The fields of what stands behind the ?, each a list of texts. */
    parseQuery(text: string): Record<string, string[]>;
  }

  /** Digests and signatures. They are bytes: hex.encode or base64.encode makes text of them. */
  export const hash: {
    /** The SHA-256 of data, 32 bytes. */
    sha256(data: string | Uint8Array): Uint8Array;
    /** The SHA-512 of data, 64 bytes. */
    sha512(data: string | Uint8Array): Uint8Array;
    /** The SHA-1 of data, 20 bytes: for what others ask for, as it can be forged. */
    sha1(data: string | Uint8Array): Uint8Array;
    /** The MD5 of data, 16 bytes: likewise. */
    md5(data: string | Uint8Array): Uint8Array;
    /** The HMAC of data by RFC 2104, with SHA-256. */
    hmacSha256(key: string | Uint8Array, data: string | Uint8Array): Uint8Array;
    /** The same with SHA-512. */
    hmacSha512(key: string | Uint8Array, data: string | Uint8Array): Uint8Array;
    /** The same with SHA-1. */
    hmacSha1(key: string | Uint8Array, data: string | Uint8Array): Uint8Array;
    /** Whether two values are the same, told in the same time wherever they differ: for signatures and tokens. */
    equal(a: string | Uint8Array, b: string | Uint8Array): boolean;
  }

  /** What nobody can foresee. */
  export const random: {
    /** So many bytes, up to 64 KiB. */
    bytes(n: number): Uint8Array;
    /** A whole number from low to high, both included. Go's is from 0 to n - 1. */
    int(low: number, high: number): number;
    /** A number from 0 on, below 1. */
    float(): number;
    /** A UUID of version 4. */
    uuid(): string;
  }

  /** Tables as text, by RFC 4180. */
  export const csv: {
    /** Rows of texts, up to 500,000 fields. Empty lines are none. */
    parse(text: string, options?: { separator?: string }): string[][];
    /** A list of lists of texts, with quotes where they are needed. */
    format(rows: string[][], options?: { separator?: string }): string;
  }

  /** Times and time zones. Layouts are Go's, which show how 2006-01-02 15:04:05 would be written. */
  export const time: {
    /** The time that a text names, of RFC 3339 or a layout. The zone is for layouts without one. */
    parse(text: string, options?: { layout?: string; zone?: string }): Date;
    /** A time as text, in the zone of that name, such as Europe/Berlin. */
    format(time: Date, options?: { layout?: string; zone?: string }): string;
    /** What a text such as 1h30m stands for; in JavaScript in milliseconds. */
    duration(text: string): number;
  }

  /** A page of a list, and the cursor of the next; empty: there is none. */
  export interface Page<T> { items: T[]; nextCursor: string }

  /** A value by key, with its version, 0 for none, and when it expires. */
  export interface Item<T> { key: string; value?: T; version: number; expiresAt?: string }

  /** What a file is called and what is known of its content: its size in bytes, and its SHA-256 in hexadecimal. */
  export interface File { id: string; name: string; contentType: string; size: number; sha256: string; createdAt: string; updatedAt: string }

  /** A document, with its id, its version and when it was made and changed. */
  export interface Doc<T> { id: string; data: T; version: number; createdAt: string; updatedAt: string }

  /** What is asked of documents: what is at each path, such as "address.city", or an object of operators: $eq $ne $gt $gte $lt $lte $in $exists $regex; around filters $and and $or. */
  export type Filter = { [path: string]: unknown }

  /** What came back, whatever its status. The body is text, or where it is none, bytes. Names of headers are canonical. */
  export interface HTTPResponse { status: number; headers: Record<string, string[]>; body: string | Uint8Array }
}

/** Lines of the run's log: what is printed joins its values by spaces. */
declare const console: {
  debug(...data: unknown[]): void;
  info(...data: unknown[]): void;
  log(...data: unknown[]): void;
  warn(...data: unknown[]): void;
  error(...data: unknown[]): void;
};

/** Timers end with the run. */
declare function setTimeout(f: () => void, ms?: number): number;
declare function clearTimeout(timer?: number): void;
declare function queueMicrotask(f: () => void): void;

declare function atob(text: string): string;
declare function btoa(text: string): string;
declare function structuredClone<T>(value: T): T;

declare class URL {
  constructor(text: string, base?: string | URL);
  static canParse(text: string, base?: string | URL): boolean;
  protocol: string;
  host: string;
  pathname: string;
  search: string;
  hash: string;
  readonly username: string;
  readonly password: string;
  readonly hostname: string;
  readonly port: string;
  readonly origin: string;
  readonly href: string;
  readonly searchParams: URLSearchParams;
  toString(): string;
  toJSON(): string;
}

declare class URLSearchParams {
  constructor(init?: string | Record<string, string> | Iterable<[string, string]>);
  readonly size: number;
  append(name: string, value: string): void;
  delete(name: string): void;
  get(name: string): string | null;
  getAll(name: string): string[];
  has(name: string): boolean;
  set(name: string, value: string): void;
  sort(): void;
  forEach(f: (value: string, name: string, all: URLSearchParams) => void): void;
  entries(): IterableIterator<[string, string]>;
  keys(): IterableIterator<string>;
  values(): IterableIterator<string>;
  [Symbol.iterator](): IterableIterator<[string, string]>;
  toString(): string;
}

declare class TextEncoder {
  encode(text?: string): Uint8Array;
}

declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean });
  decode(bytes?: Uint8Array): string;
}

declare const crypto: {
  randomUUID(): string;
  getRandomValues<T extends Uint8Array>(bytes: T): T;
};
