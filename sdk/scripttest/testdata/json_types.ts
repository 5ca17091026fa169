import { type Context } from "picloud";

export default function handle(ctx: Context) {
  const v = ctx.request.json<unknown>();
  return { same: v, own: [null, true, false, 0, -1, 1.5, "\"\\\n\u0001é✓😀", [], {}] };
}
