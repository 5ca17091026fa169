import { type Context } from "picloud";

type User = { name: string; langs: string[] };

export default async function handle(ctx: Context) {
  const users = ctx.kv("users");
  const none = await users.get<User>("ada");
  const version = await users.set("ada", { name: "Ada", langs: ["go"] }, { ttlMs: 60_000, ifVersion: 0 });
  const ada = await users.get<User>("ada");
  const item = await users.entry<User>("ada");
  return [
    none !== undefined, version, ada?.name, item.version, item.expiresAt, await users.has("ada"), await users.increment("n", { by: 5 }),
    await users.delete("ada"),
  ];
}
