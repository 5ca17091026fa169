import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  const notes = ctx.files("notes");
  const made = await notes.create("a.txt", new Uint8Array([0, 255]), { contentType: "text/plain" });
  const known = await notes.head(made.id);
  const content = await notes.get(made.id) ?? new Uint8Array();
  const none = await notes.get("f2");
  const { items } = await notes.list({ limit: 5 });
  return [made.id, known?.contentType, known?.size, [...content], none === undefined, items[0]?.name, await notes.delete(made.id)];
}
