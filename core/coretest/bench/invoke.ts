import { type Context, Response } from "picloud";

// Has another script answer.
export default async function handle(ctx: Context) {
  const answer = await ctx.call("hello-ts", null);
  return new Response(answer.body, { status: answer.status, headers: answer.headers });
}
