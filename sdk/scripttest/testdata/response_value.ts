import { type Context } from "picloud";

export default function handle(ctx: Context) {
  return { list: [1, "two", null, true] };
}
