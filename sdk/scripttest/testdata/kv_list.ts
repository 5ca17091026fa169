import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  const users = ctx.kv("users");
  const { items, nextCursor } = await users.list({ prefix: "a", limit: 2 });
  const more = await users.list({ prefix: "a", limit: 2, cursor: nextCursor });
  return [items[0]?.key, items[1]?.key, items[1]?.value, more.items.length];
}
