import { type Context } from "picloud";

export default function handle(ctx: Context) {
  const r = ctx.request;
  return [
    r.method, r.host, r.path, r.rest, r.params, r.headers, r.query,
    r.header("x-one"), r.header("X-None"), r.param("id"), r.param("none"), r.queryValue("q"), r.queryValue("none"),
  ];
}
