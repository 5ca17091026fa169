import { type Context } from "picloud";

export default function handle(ctx: Context) {
  const b = ctx.request.body;
  return [b.length, b[0], b[b.length - 1]];
}
