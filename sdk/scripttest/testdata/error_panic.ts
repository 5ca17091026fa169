import { type Context } from "picloud";

export default function handle(ctx: Context) {
  const missing = undefined as unknown as number[];
  return missing[7];
}
