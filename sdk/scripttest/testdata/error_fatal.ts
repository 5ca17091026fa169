import { Fatal, type Context } from "picloud";

export default function handle(ctx: Context) {
  throw new Fatal("never");
}
