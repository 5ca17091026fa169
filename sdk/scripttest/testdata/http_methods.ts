import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  const head = await ctx.http.head("https://example.com/");
  const patch = await ctx.http.patch("https://example.com/", [1]);
  return [head.status, patch.status];
}
