import { hello } from "app/greet";
import type { Context } from "picloud";

export default function handle(ctx: Context) {
  return hello(ctx.request.param("name"));
}
