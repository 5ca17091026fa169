import { type Context } from "picloud";

export default function handle(ctx: Context) {
  for (let i = 0; i < 10; i++) ctx.log.info("line", i);
}
