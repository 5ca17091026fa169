import { type Context } from "picloud";

export default async function handle(ctx: Context) {
  return await ctx.http.delete("http://10.0.0.1/");
}
