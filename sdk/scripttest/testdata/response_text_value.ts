import { type Context } from "picloud";

export default function handle(ctx: Context) {
  return "text";
}
