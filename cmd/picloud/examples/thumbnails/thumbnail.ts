import { Fatal, type Context } from "picloud";

const side = 128; // pixels of the longer one
const samples = 4; // of a picture's pixels, either way, for each of the thumbnail's

// Makes the thumbnail of a picture that was kept: PNG of 8 bits, RGB or RGBA, not interlaced, as pictures.ts has looked at.
export default async function handle(ctx: Context) {
  const { id } = ctx.request.json<{ id: string }>();
  const data = await ctx.files("pictures").get(id);
  if (data === undefined) return; // it is deleted already
  const file = await ctx.files("thumbnails").create("thumbnail.png", encode(shrink(decode(data))), { contentType: "image/png" });
  await ctx.kv("thumbnails").set(id, file.id);
}

// A picture has four bytes a pixel: red, green, blue and alpha.
interface Picture { width: number; height: number; pixels: Uint8Array }

// Averages some pixels for each of the smaller picture's, weighed by how opaque they are.
function shrink({ width: fromWidth, height: fromHeight, pixels }: Picture): Picture {
  const longer = Math.max(fromWidth, fromHeight, side);
  const width = Math.max(1, Math.trunc(fromWidth * side / longer)), height = Math.max(1, Math.trunc(fromHeight * side / longer));
  const out = new Uint8Array(width * height * 4);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at += 4) {
      let r = 0, g = 0, b = 0, a = 0;
      for (let i = 0; i < samples * samples; i++) {
        const sx = Math.trunc((x * samples + i % samples) * fromWidth / (width * samples));
        const sy = Math.trunc((y * samples + Math.trunc(i / samples)) * fromHeight / (height * samples));
        const from = (sy * fromWidth + sx) * 4, alpha = pixels[from + 3]!;
        r += pixels[from]! * alpha;
        g += pixels[from + 1]! * alpha;
        b += pixels[from + 2]! * alpha;
        a += alpha;
      }
      if (a > 0) out.set([r / a, g / a, b / a, a / (samples * samples)], at);
    }
  }
  return { width, height, pixels: out };
}

// Reads a PNG (W3C, PNG, third edition).
function decode(data: Uint8Array): Picture {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const width = view.getUint32(16), height = view.getUint32(20), bytes = data[25] === 6 ? 4 : 3;
  const parts: Uint8Array[] = [];
  for (let at = 8; at + 12 <= data.length;) {
    const length = view.getUint32(at), name = view.getUint32(at + 4);
    if (name === 0x49444154) parts.push(data.subarray(at + 8, at + 8 + length)); // IDAT
    at += 12 + length;
  }
  const line = width * bytes;
  const raw = inflate(joined(parts).subarray(2), height * (line + 1)); // behind the header of zlib
  const pixels = new Uint8Array(width * height * 4).fill(255);
  let above: Uint8Array = new Uint8Array(line);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (line + 1)], row = raw.subarray(y * (line + 1) + 1, (y + 1) * (line + 1));
    for (let i = 0; i < line && filter !== 0; i++) {
      const left = i < bytes ? 0 : row[i - bytes]!, up = above[i]!;
      if (filter === 1) row[i]! += left;
      else if (filter === 2) row[i]! += up;
      else if (filter === 3) row[i]! += (left + up) >> 1;
      else row[i]! += nearest(left, up, i < bytes ? 0 : above[i - bytes]!);
    }
    for (let x = 0; x < width; x++) pixels.set(row.subarray(x * bytes, (x + 1) * bytes), (y * width + x) * 4);
    above = row;
  }
  return { width, height, pixels };
}

// Is the filter of Paeth.
function nearest(left: number, up: number, corner: number) {
  const p = left + up - corner, a = Math.abs(p - left), b = Math.abs(p - up), c = Math.abs(p - corner);
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

// Writes a PNG whose data is stored as it is.
function encode({ width, height, pixels }: Picture): Uint8Array {
  const line = width * 4, raw = new Uint8Array(height * (line + 1));
  for (let y = 0; y < height; y++) raw.set(pixels.subarray(y * line, (y + 1) * line), y * (line + 1) + 1);
  const header = new Uint8Array(13), view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 6], 8);
  return joined([
    new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]), chunk("IHDR", header), chunk("IDAT", stored(raw)), chunk("IEND", new Uint8Array()),
  ]);
}

function chunk(name: string, data: Uint8Array): Uint8Array {
  const out = new Uint8Array(12 + data.length), view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  out.set(new TextEncoder().encode(name), 4);
  out.set(data, 8);
  view.setUint32(8 + data.length, crc32(out.subarray(4, 8 + data.length)));
  return out;
}

function crc32(data: Uint8Array): number {
  let crc = -1;
  for (const byte of data) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = crc >>> 1 ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

// Is zlib (RFC 1950) with blocks that are stored.
function stored(data: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [new Uint8Array([0x78, 1])];
  for (let at = 0; at < data.length; at += 65535) {
    const block = data.subarray(at, at + 65535), n = block.length, last = at + n === data.length ? 1 : 0;
    parts.push(new Uint8Array([last, n & 255, n >> 8, ~n & 255, ~n >> 8 & 255]), block);
  }
  let a = 1, b = 0;
  for (const byte of data) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  parts.push(new Uint8Array([b >> 8, b & 255, a >> 8, a & 255]));
  return joined(parts);
}

function joined(parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

// Inflates (RFC 1951) to exactly size bytes, which the picture's size says: a bomb ends there.
function inflate(data: Uint8Array, size: number): Uint8Array {
  const out = new Uint8Array(size), bits = new Bits(data);
  let to = 0;
  const put = (byte: number) => {
    if (to >= size) throw new Fatal("the picture has more data than pixels");
    out[to++] = byte;
  };
  for (let last = 0; last === 0;) {
    last = bits.take(1);
    const kind = bits.take(2);
    if (kind === 0) {
      bits.align();
      const n = bits.take(16);
      bits.take(16);
      for (let i = 0; i < n; i++) put(bits.take(8));
      continue;
    }
    if (kind === 3) throw new Fatal("the picture's data is wrong");
    const [literals, distances] = kind === 1 ? fixed : dynamic(bits);
    for (let symbol = bits.next(literals); symbol !== 256; symbol = bits.next(literals)) {
      if (symbol < 256) {
        put(symbol);
        continue;
      }
      const length = lengths[symbol - 257]! + bits.take(lengthBits[symbol - 257]!);
      const d = bits.next(distances), distance = starts[d]! + bits.take(startBits[d]!);
      if (!(distance <= to)) throw new Fatal("the picture's data is wrong");
      for (let i = 0; i < length; i++) put(out[to - distance]!);
    }
  }
  if (to !== size) throw new Fatal("the picture has less data than pixels");
  return out;
}

// Reads bits, the lowest of a byte first.
class Bits {
  #at = 0;
  #held = 0;
  #count = 0;
  constructor(readonly data: Uint8Array) {}
  #fill(n: number) {
    while (this.#count < n && this.#at < this.data.length) {
      this.#held |= this.data[this.#at++]! << this.#count;
      this.#count += 8;
    }
  }
  take(n: number): number {
    this.#fill(n);
    const value = this.#held & (1 << n) - 1;
    this.#drop(n);
    return value;
  }
  // Reads a symbol of a code.
  next({ table, most }: Code): number {
    this.#fill(most);
    const found = table[this.#held & (1 << most) - 1]!;
    this.#drop(found & 15 || 16);
    return found >> 4;
  }
  align() { this.#held = this.#count = 0; } // no whole byte is held
  #drop(n: number) {
    if (n > this.#count) throw new Fatal("the picture's data is wrong, or cut off");
    this.#held >>>= n;
    this.#count -= n;
  }
}

const lengths = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const lengthBits = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const starts = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577];
const startBits = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];

// A code by its next bits, as many as its longest symbol has: the symbol, and below it in four bits how many it has.
interface Code { table: Uint16Array; most: number }

function code(sizes: number[]): Code {
  const most = Math.max(1, ...sizes), table = new Uint16Array(1 << most);
  for (let n = 1, value = 0; n <= most; n++, value <<= 1) {
    sizes.forEach((size, symbol) => {
      if (size !== n) return;
      let first = 0; // the bits of value from behind
      for (let k = 0; k < n; k++) first = first << 1 | value >> k & 1;
      for (let i = first; i < table.length; i += 1 << n) table[i] = symbol << 4 | n;
      value++;
    });
  }
  return { table, most };
}

const fixed: [Code, Code] = [
  code(Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8))), code(new Array<number>(30).fill(5)),
];

function dynamic(bits: Bits): [Code, Code] {
  const literals = bits.take(5) + 257, distances = bits.take(5) + 1, count = bits.take(4) + 4;
  const sizes = new Array<number>(19).fill(0);
  for (const i of [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15].slice(0, count)) sizes[i] = bits.take(3);
  const sizeCode = code(sizes), all: number[] = [];
  while (all.length < literals + distances) {
    const symbol = bits.next(sizeCode);
    if (symbol < 16) all.push(symbol);
    else if (symbol === 16) all.push(...new Array<number>(3 + bits.take(2)).fill(all.at(-1) ?? 0));
    else all.push(...new Array<number>(symbol === 17 ? 3 + bits.take(3) : 11 + bits.take(7)).fill(0));
  }
  return [code(all.slice(0, literals)), code(all.slice(literals, literals + distances))];
}
