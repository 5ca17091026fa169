import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  const notes = ctx.files("notes");
  const upload = await notes.begin();
  let size = 0;
  for (const part of [[0, 255], [97]]) size = await notes.write(upload, size, new Uint8Array(part));
  const made = await notes.finish(upload, "a.txt", { contentType: "text/plain" });
  let length = 0;
  for (let block = 0, more = true; more; block++) {
    const read = await notes.read(made.id, block);
    length += read.data.length;
    more = read.more;
  }
  return [made.id, length];
}
