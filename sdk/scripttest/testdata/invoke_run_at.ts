import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  return await ctx.invoke("bill", null, { runAt: "2030-01-02T03:04:05Z" });
}
