import { type Context } from "picloud";

export default function handle(ctx: Context) {
  const r = ctx.request;
  return [r.method, r.path, Object.keys(r.headers).length, Object.keys(r.params).length, r.header("a"), r.text()];
}
