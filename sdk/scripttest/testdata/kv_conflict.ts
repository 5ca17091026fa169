import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  return await ctx.kv("users").set("ada", 1, { ifVersion: 7 });
}
