import { type Context } from "picloud";

export default function handle(ctx: Context) {
  throw new Error("no luck");
}
