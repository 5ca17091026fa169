import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  return await ctx.queue("mail").send("hello", { priority: 1 });
}
