import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  const key = await ctx.secrets.get("KEY");
  const none = await ctx.secrets.get("NONE");
  await ctx.secrets.set("TOKEN", { a_b: 1 });
  const token = await ctx.secrets.get<{ a_b: number }>("TOKEN");
  return [key, none !== undefined, token?.a_b, await ctx.secrets.delete("TOKEN"), await ctx.secrets.list()];
}
