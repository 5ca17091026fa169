import { RetryAfter, type Context } from "picloud";

export default function handle(ctx: Context) {
  throw new RetryAfter("busy", 90_000);
}
