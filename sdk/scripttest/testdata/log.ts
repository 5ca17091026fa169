import { type Context } from "picloud";

export default function handle(ctx: Context) {
  ctx.log.trace("a");
  ctx.log.debug("b");
  ctx.log.info("c", { n: 1 });
  ctx.log.warn("d", 1, "two");
  ctx.log.error("é✓");
}
